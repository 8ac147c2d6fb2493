"""Compile the GPU kernels to machine code without a GPU, and count registers and spills. Optional: 500 MB of downloads.

    pip install --target cuda --no-deps jax-cuda12-plugin==VERSION jax-cuda12-pjrt==VERSION nvidia-cuda-nvcc-cu12
    python benchmarks/gpu_compile.py --cuda cuda               # VERSION is that of jax

Triton for sm_80 (Ampere), Triton and Mosaic for sm_90 (Hopper); writes benchmarks/results/gpu_registers.json.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/gpu_registers.json"
CASES = [("triton", "sm_80"), ("triton", "sm_90"), ("mosaic", "sm_90")]
CHANNELS, TILES, CHUNKS = 7, 196, 8192
CHIP = {"sm_80": "a100", "sm_90": "h100"}


def compile_kernel(backend: str, architecture: str, kernel: str) -> None:
    """Compile one kernel alone; XLA_FLAGS says where its PTX goes."""
    import jax
    import jax.numpy as jnp
    from tileraster.pallas.composite import Lists, TileCotangents
    from tileraster.pallas.kernels import gpu_kernels
    from tileraster.pallas.tuning import GPU_TUNING

    from sheap_jax.ahead_of_time.accelerators import find_target

    mesh = jax.sharding.Mesh(find_target(CHIP[architecture]).devices, ("gpu",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    chunk, pixels = GPU_TUNING.chunk, GPU_TUNING.tile**2
    tiles = array(TILES, dtype=jnp.int32)
    lists = Lists(array(CHUNKS, chunk, 16), array(CHUNKS, chunk, CHANNELS), tiles, tiles)
    cotangents = TileCotangents(array(TILES, CHANNELS, pixels), *[array(TILES, pixels)] * 4)
    run = functools.partial(getattr(gpu_kernels(f"pallas_gpu_{backend}"), kernel), near=0.01)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(run).lower(*((lists,) if kernel == "forward" else (lists, cotangents))).compile()


def measure(backend: str, architecture: str, kernel: str, cuda: Path) -> dict[str, int]:
    """Registers per thread and bytes spilled, as ptxas reports them. Compiles in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        nvcc = cuda / "nvidia/cuda_nvcc"
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}:{cuda}",
            "PATH": f"{nvcc / 'bin'}:{os.environ['PATH']}",
            "XLA_FLAGS": f"--xla_dump_to={folder} --xla_gpu_cuda_data_dir={nvcc}",
            "MOSAIC_GPU_DUMP_PTX": "1",
        }
        command = [sys.executable, __file__, "--compile", backend, architecture, kernel]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")
        # Mosaic runs a compiler of its own inside XLA's and prints; the files are XLA's, with what surrounds a kernel.
        printed = re.findall(r"^\.version.*?^}", result.stdout + result.stderr, flags=re.MULTILINE | re.DOTALL)
        files = [path.read_text() for path in Path(folder).glob("*.ptx")]
        ptx = max(printed if backend == "mosaic" else files, key=len, default="")
        source, target = Path(folder) / "kernel.ptx", re.search(r"\.target (sm_\w+)", ptx)
        if target is None:
            raise RuntimeError(f"{backend} {architecture} {kernel}: compiled, but no PTX was dumped")
        source.write_text(ptx[ptx.index(".version") :])
        ptxas = [nvcc / "bin/ptxas", "-v", f"-arch={target.group(1)}", source, "-o", Path(folder) / "kernel.cubin"]
        report = subprocess.run(ptxas, capture_output=True, text=True, check=True).stderr
    registers = re.findall(r"Used (\d+) registers", report)
    spills = re.findall(r"(\d+) bytes spill", report)
    return {"registers": max(map(int, registers)), "spilled_bytes": sum(map(int, spills))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", type=Path, help="folder with the packages above")
    parser.add_argument("--compile", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compile:
        return compile_kernel(*arguments.compile)
    if arguments.cuda is None:
        parser.error("--cuda: the folder that pip has filled, see above")
    report: dict[str, Any] = {"jax": version("jax"), "channels": CHANNELS, "kernels": {}}
    for backend, architecture in CASES:
        for kernel in ("forward", "backward"):
            name = f"{backend} {architecture} {kernel}"
            report["kernels"][name] = measure(backend, architecture, kernel, arguments.cuda.resolve())
            print(name, report["kernels"][name], flush=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
