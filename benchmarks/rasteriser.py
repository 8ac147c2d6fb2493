"""Time the rasteriser on head-like shells of surfels; prints one JSON object.

    python benchmarks/rasteriser.py --surfels 4000 --pixels 96 --batch 8

Both wall and processor time are reported: on a busy machine the second is the one to compare.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))
import tileraster
from tileraster.binning import TileGrid, bin_primitives, default_capacity
from tileraster.projection import project_surfels
from tileraster.surfels import TILE
from tileraster.types import SplatInputs

REPEATS = 7


def head_shell(count: int, pixels: int, batch: int, *, seed: int = 0) -> SplatInputs:
    """Surfels that cover an ellipsoid of a head's size, one metre in front of a camera that it fills."""
    rng = np.random.default_rng(seed)
    axes = np.array([0.075, 0.1, 0.085])
    direction = rng.normal(size=(batch, count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    normal = direction / axes
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    # The shortest rotation from +z to the normal.
    quats = np.stack([1 + normal[..., 2], -normal[..., 1], normal[..., 0], np.zeros((batch, count))], axis=-1)
    spacing = np.sqrt(4 * np.pi * 0.0075 / count)
    viewmat = np.diag([1.0, -1.0, -1.0, 1.0])
    viewmat[2, 3] = 1.0
    intrinsics = np.array([[4.0 * pixels, 0, pixels / 2], [0, 4.0 * pixels, pixels / 2], [0, 0, 1]])
    arrays = (
        direction * axes,
        quats,
        0.6 * spacing * np.exp(0.3 * rng.normal(size=(batch, count, 2))),
        1 / (1 + np.exp(-1 - 1.5 * rng.normal(size=(batch, count)))),
        rng.uniform(size=(batch, count, 3)),
        np.broadcast_to(viewmat, (batch, 4, 4)),
        np.broadcast_to(intrinsics, (batch, 3, 3)),
        np.zeros((batch, 3)),
        np.zeros((batch, count, 2)),
    )
    return SplatInputs(*(jnp.asarray(value, jnp.float32) for value in arrays))


def measure(function: Callable, *arguments: object) -> dict[str, float]:
    """Compile time, and the best of REPEATS runs, in milliseconds."""
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    wall, processor = [], []
    for _ in range(REPEATS):
        start, used = time.perf_counter(), _processor_seconds()
        jax.block_until_ready(compiled(*arguments))
        wall.append(time.perf_counter() - start)
        processor.append(_processor_seconds() - used)
    memory = compiled.memory_analysis()
    return {
        "wall_ms": 1e3 * min(wall),
        "processor_ms": 1e3 * min(processor),
        "compile_s": compile_seconds,
        "temporary_mb": memory.temp_size_in_bytes / 1e6 if memory is not None else float("nan"),
    }


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def benchmark(count: int, pixels: int, batch: int, implementation: str | None) -> dict[str, object]:
    inputs = head_shell(count, pixels, batch)
    grid = TileGrid(width=pixels, height=pixels, tile=TILE)
    capacity = default_capacity(count, grid)

    def image(inputs: SplatInputs) -> tileraster.SurfelImage:
        size = {"width": pixels, "height": pixels}
        return tileraster.rasterize_surfels(
            *inputs[:7], **size, background=inputs.background, implementation=implementation
        )

    def loss(inputs: SplatInputs) -> jax.Array:
        out = image(inputs)
        return sum(jnp.sum(value * value) for value in (out.color, out.alpha, out.depth, out.normal, out.distortion))

    def bins(inputs: SplatInputs) -> object:
        return bin_primitives(project_surfels(inputs, near=0.01).boxes, grid, capacity=capacity)

    entries = jax.jit(bins)(inputs).entries
    return {
        "surfels": count,
        "pixels": pixels,
        "batch": batch,
        "entries_per_surfel": float(jnp.mean(entries)),
        "overflow": int(jnp.max(jax.jit(image)(inputs).overflow)),
        "project": measure(lambda inputs: project_surfels(inputs, near=0.01), inputs),
        "project_and_bin": measure(bins, inputs),
        "forward": measure(image, inputs),
        "forward_and_backward": measure(jax.grad(loss), inputs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, nargs="+", default=[4000])
    parser.add_argument("--pixels", type=int, nargs="+", default=[96])
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--implementation", choices=["reference", "xla"], default=None)
    arguments = parser.parse_args()
    scenes = zip(arguments.surfels, arguments.pixels, arguments.batch, strict=True)
    report = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "scenes": [benchmark(*scene, arguments.implementation) for scene in scenes],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
