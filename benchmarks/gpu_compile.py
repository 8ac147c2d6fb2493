"""Compile the GPU kernels to machine code without a GPU: registers, spills, and the code itself. Optional downloads.

    pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION triton==3.6.0
    pip install --no-deps nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
    python benchmarks/gpu_compile.py --code code         # VERSION is that of jax

Kernels at the training's size for a Hopper GPU, and Triton's for Ampere. Writes benchmarks/results/gpu_registers.json,
and with --code what each kernel has become, so that the instructions of a loop can be counted. Pallas gives a kernel
to its compiler in Triton's language. Here Triton's own package compiles it, whose version is not that in XLA. Mosaic
prints what it compiles.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from timing import require

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/gpu_registers.json"
CASES = [("triton", "sm_80"), ("triton", "sm_90"), ("mosaic", "sm_90")]
KERNELS = ("forward", "backward")
CHIP = {"sm_80": "a100", "sm_90": "h100"}
BACKEND = "mhlo.backend_config"  # attribute of a kernel's call
CHANNELS, IMAGES, SURFELS, PIXELS = 7, 32, 40_000, 224


def lower_kernel(backend: str, architecture: str, kernel: str) -> Any:
    """The kernel with what surrounds it, lowered for a GPU that is not there."""
    import jax
    import jax.numpy as jnp
    from tileraster.pallas.composite import Primitives, TileCotangents
    from tileraster.pallas.kernels import gpu_kernels
    from tileraster.tiling.binning import Bins, TileGrid, default_capacity

    from sheap_jax.ahead_of_time.accelerators import find_target

    mesh = jax.sharding.Mesh(find_target(CHIP[architecture]).devices, ("gpu",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def array(*shape: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    kernels = gpu_kernels(f"pallas_gpu_{backend}")
    grid = TileGrid(PIXELS, PIXELS, kernels.tile)
    rows, tiles, entries = IMAGES * SURFELS, IMAGES * grid.tiles, IMAGES * default_capacity(SURFELS, grid)
    bins = Bins(*(array(size, dtype=jnp.int32) for size in (entries, entries, tiles, tiles, rows, rows, IMAGES)))
    primitives = Primitives(array(rows, 13), array(rows, CHANNELS), bins)
    planes = [array(tiles, grid.tile**2)] * 4
    cotangents = TileCotangents(array(tiles, CHANNELS, grid.tile**2), *planes)
    run = functools.partial(getattr(kernels, kernel), grid=grid, near=0.01)
    arguments = (primitives,) if kernel == "forward" else (primitives, cotangents)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(run).lower(*arguments)
        if backend == "mosaic":
            lowered.compile()
    return lowered


def triton_source(lowered: Any, name: str) -> tuple[str, int]:
    """The kernel of that name in Triton's language, and its warps."""
    from jax._src.interpreters import mlir as jax_mlir  # no public way leads to a kernel's source
    from jax._src.lib import triton as dialect
    from jax._src.lib.mlir import ir

    context = jax_mlir.JaxIrContext()
    dialect.dialect.register_dialect(context)
    context.load_all_available_dialects()
    found = []

    def walk(operation: Any) -> None:
        for inner in (one for region in operation.regions for block in region.blocks for one in block.operations):
            attributes = inner.operation.attributes
            config = ir.DictAttr(attributes[BACKEND]) if BACKEND in attributes else {}
            if "ir" in config and ir.StringAttr(config["name"]).value == name:
                source = ir.StringAttr(config["ir"]).value_bytes
                found.append((source, ir.IntegerAttr(config["num_warps"]).value))
            walk(inner.operation)

    walk(lowered.compiler_ir("stablehlo").operation)
    (source, warps), *_ = found
    with context:
        text = ir.Module.parse(source).operation.get_asm(enable_debug_info=False)
    return re.sub(r"module @\w+", "module", text, count=1), warps


def compile_triton(source: str, warps: int, architecture: str, folder: Path) -> Path:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import compile as compile_source

    (folder / "kernel.ttir").write_text(source)
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    kernel = compile_source(str(folder / "kernel.ttir"), target=target, options={"num_warps": warps, "num_stages": 1})
    code = folder / "kernel.cubin"
    code.write_bytes(kernel.asm["cubin"])
    return code


def compile_printed(printed: str, name: str, folder: Path) -> Path:
    """Machine code from the PTX that Mosaic has printed."""
    programs = re.findall(r"^\.version.*?^}", printed, flags=re.MULTILINE | re.DOTALL)
    [source] = {program for program in programs if name in program}
    target = re.search(r"\.target (sm_\w+)", source)
    assert target is not None
    (folder / "kernel.ptx").write_text(source)
    code = folder / "kernel.cubin"
    command = [tool("ptxas"), f"-arch={target.group(1)}", folder / "kernel.ptx", "-o", code]
    subprocess.run(command, check=True, capture_output=True)
    return code


def measure(backend: str, architecture: str, kernel: str, code_folder: Path | None) -> dict[str, int]:
    """Registers per thread, instructions that spill, and all. In a process of its own, as Mosaic prints."""
    with tempfile.TemporaryDirectory() as place:
        folder, name = Path(place), f"splat_{kernel}"
        command = [sys.executable, __file__, "--one", backend, architecture, kernel, place]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
            "MOSAIC_GPU_DUMP_PTX": "1",
            "TRITON_CACHE_DIR": str(folder / "cache"),
        }
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")
        code = folder / "kernel.cubin"
        if backend == "mosaic":
            code = compile_printed(result.stdout + result.stderr, name, folder)
        usage = output_of("cuobjdump", "--dump-resource-usage", code)
        text = output_of("nvdisasm", "-c", code)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None
    instructions = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)", text, flags=re.MULTILINE)
    if code_folder:
        code_folder.mkdir(parents=True, exist_ok=True)
        (code_folder / f"{backend}_{architecture}_{kernel}.sass").write_text(text)
    spills = sum(one in ("STL", "LDL") for one in instructions)
    often = collections.Counter(instructions).most_common(5)
    print(
        f"{backend} {architecture} {kernel}: {registers[1]} registers, {len(instructions)} instructions {often}",
        flush=True,
    )
    return {"registers": int(registers[1]), "spills": spills, "instructions": len(instructions)}


def tool(name: str) -> Path:
    """A program of the CUDA packages."""
    found = find_spec("nvidia")
    folders = list(found.submodule_search_locations or []) if found else []
    places = [Path(folder) / "cu13/bin" / name for folder in folders]
    with contextlib.suppress(StopIteration):
        return next(place for place in places if place.exists())
    sys.exit(f"needs {name}: see the packages above")


def output_of(name: str, *arguments: str | Path) -> str:
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, metavar="FOLDER", help="keep the machine code there, as text")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        backend, architecture, kernel, folder = options.one
        from sheap_jax.ahead_of_time import accelerators

        accelerators.prepare(CHIP[architecture])
        lowered = lower_kernel(backend, architecture, kernel)
        if backend == "triton":
            compile_triton(*triton_source(lowered, f"splat_{kernel}"), architecture, Path(folder))
        return
    require("triton", "jax_plugins", "nvidia")
    report: dict[str, Any] = {"jax": version("jax"), "triton": version("triton"), "channels": CHANNELS, "kernels": {}}
    for backend, architecture in CASES:
        for kernel in KERNELS:
            name = f"{backend} {architecture} {kernel}"
            report["kernels"][name] = measure(backend, architecture, kernel, options.code)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
