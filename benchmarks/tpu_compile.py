"""Compile the TPU kernels ahead of time for real TPU targets and count their VLIW bundles. Needs libtpu, and no TPU.

    pip install "jax[tpu]"
    python benchmarks/tpu_compile.py                           # all targets; writes benchmarks/results/tpu_bundles.json
    python benchmarks/tpu_compile.py --targets v5e --dry-run   # one target, printed only

A bundle is what a TensorCore issues per cycle; stalls on memory are not in the count. Per entry (a surfel on a tile of
32 x 32 pixels) it takes the inner loop's bundles divided by the entries per iteration, plus its share of what is done
per chunk. The clock then gives a bound on speed: nothing here has been measured on a TPU.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/tpu_bundles.json"
TARGETS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
KINDS = {"v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"}
SHARDED = {"v5e": "v5e:16x16", "v5p": "v5p:4x8x8", "v6e": "v6e:16x16"}  # 256 chips each
KERNELS = ("forward", "backward")
CHANNELS, TILES, CHUNKS = 7, 49, 2048  # colour, normal and 1; a 224 x 224 image with 64k entries


def count_bundles(folder: Path, kernel: str) -> dict[int, int]:
    """Bundles of a dumped kernel by loop depth: 1 is the grid, 2 a chunk, 3 an iteration of the inner loop."""
    files = [path for path in folder.glob(f"*splat_{kernel}*final_bundles.txt") if "schedule" not in path.name]
    if not files:
        raise FileNotFoundError(f"{folder}: no bundles of splat_{kernel}; does this libtpu know --xla_jf_dump_to?")
    depths = Counter[int]()
    for line in max(files).read_text().splitlines():
        bundle = re.match(r"\s*(?:0x[0-9a-f]+|0)\s+(?:\w\w)?\s*:\s*(>*)\s*\{", line)
        if bundle:
            depths[len(bundle.group(1))] += 1
    return dict(depths)


def per_entry(bundles: dict[int, int], *, chunk: int, unroll: int) -> float:
    """Bundles per entry, with its share of the chunk. A loop of one iteration has been unrolled into the chunk."""
    inner = bundles.get(3, 0) / unroll if unroll < chunk else bundles.get(3, 0) / chunk
    return inner + bundles[2] / chunk


def compile_kernel(target: str, kernel: str) -> None:
    """Compile one kernel alone for one chip of `target`."""
    import jax
    import jax.numpy as jnp
    from tileraster.pallas import tpu_backward, tpu_forward
    from tileraster.pallas.composite import TileCotangents
    from tileraster.pallas.entry_lists import Lists
    from tileraster.pallas.tuning import tpu_tuning

    mesh, sharding = _mesh(TARGETS[target], chips=1)

    def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    chunk, pixels = tpu_forward.CHUNK, tpu_forward.TILE**2
    tiles = array(TILES, dtype=jnp.int32)
    lists = Lists(array(CHUNKS, chunk, 16), array(CHUNKS, chunk, CHANNELS), tiles, tiles)
    cotangents = TileCotangents(array(TILES, CHANNELS, pixels), *[array(TILES, pixels)] * 4)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        tuning = tpu_tuning("pallas_tpu")
        if kernel == "forward":
            run = jax.jit(
                lambda lists: tpu_forward.forward(lists, near=0.01, unroll=tuning.forward, overlap=tuning.overlap)
            )
            run.lower(lists).compile()
        else:
            run = jax.jit(
                lambda lists, cotangents: tpu_backward.backward(lists, cotangents, near=0.01, unroll=tuning.backward)
            )
            run.lower(lists, cotangents).compile()


def compile_sharded(target: str) -> dict[str, float]:
    """A whole gradient, one image per chip, cameras and images split and surfels shared: their gradients are summed."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P
    from tileraster import rasterize_surfels

    chips, count, pixels = 256, 4096, 224
    mesh, split = _mesh(SHARDED[target], chips=chips)
    shared = jax.sharding.NamedSharding(mesh, P())
    surfels = [
        jax.ShapeDtypeStruct((count, *axes), jnp.float32, sharding=shared) for axes in ((3,), (4,), (2,), (), (3,))
    ]
    views = [jax.ShapeDtypeStruct((chips, k, k), jnp.float32, sharding=split) for k in (4, 3)]

    def loss(surfels: list[Any], viewmats: Any, intrinsics: Any) -> Any:
        batch = [jnp.broadcast_to(value, (viewmats.shape[0], *value.shape)) for value in surfels]
        size = {"width": pixels, "height": pixels, "implementation": "pallas_tpu"}
        image = rasterize_surfels(*batch, viewmats, intrinsics, **size)
        return sum(jnp.sum(value * value) for value in (image.color, image.depth, image.normal, image.distortion))

    def step(surfels: list[Any], viewmats: Any, intrinsics: Any) -> Any:
        gradient = jax.grad(loss)(surfels, viewmats, intrinsics)
        return jax.lax.psum(gradient, "chips")

    specs = (P(), P("chips"), P("chips"))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        run = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False))
        compiled = run.lower(surfels, *views).compile()
    memory = compiled.memory_analysis()
    assert "all-reduce" in compiled.as_text()
    return {"chips": chips, "temporary_mb_per_chip": round(memory.temp_size_in_bytes / 1e6, 1)}


def _mesh(topology_name: str, *, chips: int) -> Any:
    import jax
    import numpy as np
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name=topology_name)
    mesh = jax.sharding.Mesh(np.array(topology.devices[:chips]), ("chips",))
    return mesh, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chips" if chips > 1 else None))


def measure(target: str, kernel: str) -> dict[str, Any]:
    """Compile in a process of its own, as the folder for the dump is fixed when libtpu starts, and count."""
    with tempfile.TemporaryDirectory() as folder:
        _run(["--compile", target, kernel], dump=folder)
        bundles = count_bundles(Path(folder), kernel)
    from tileraster.pallas.tpu_forward import CHUNK
    from tileraster.pallas.tuning import tpu_tuning

    unroll = getattr(tpu_tuning("pallas_tpu", KINDS[target]), kernel)
    total = per_entry(bundles, chunk=CHUNK, unroll=unroll)
    return {"by_loop_depth": bundles, "unroll": unroll, "bundles_per_entry": round(total, 2)}


def _run(arguments: list[str], *, dump: str | None = None) -> str:
    quiet = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
    environment = {**os.environ, **quiet, "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'kernels'}"
    if dump is not None:
        environment["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={dump}"
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")
    return result.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--dry-run", action="store_true", help="print, do not write the results")
    parser.add_argument("--compile", nargs=2, metavar=("TARGET", "KERNEL"), help=argparse.SUPPRESS)
    parser.add_argument("--compile-sharded", metavar="TARGET", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compile:
        return compile_kernel(*arguments.compile)
    if arguments.compile_sharded:
        return print(json.dumps(compile_sharded(arguments.compile_sharded)))
    from importlib.metadata import version

    report: dict[str, Any] = {"jax": version("jax"), "libtpu": version("libtpu"), "targets": {}}
    for target in arguments.targets:
        report["targets"][target] = {kernel: measure(target, kernel) for kernel in KERNELS}
        report["targets"][target]["sharded_gradient"] = json.loads(_run(["--compile-sharded", target]))
        print(target, json.dumps(report["targets"][target]), flush=True)
    if not arguments.dry_run:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "kernels")]
    main()
