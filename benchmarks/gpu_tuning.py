"""Sweep of the numbers that tune the GPU kernels: tile, entries per chunk, warps.

    python benchmarks/gpu_tuning.py --output benchmarks/results/gpu_tuning.json
    python benchmarks/gpu_tuning.py --surfels 300 --pixels 48 --batch 1 --interpret       # a toy, on any device

Times compositing, the only part of the rasteriser that the numbers change, forward and with its gradient. The best
numbers of each compiler come last. They go into `tileraster.pallas.tuning.GPU_TUNING`.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rasteriser import NEAR, gradient
from scenes import head_shell
from tileraster.pallas import composite
from tileraster.pallas.kernels import gpu_kernels
from tileraster.pallas.tuning import GpuTuning
from tileraster.splats.projection import project_surfels
from tileraster.tiling.binning import TileGrid, bin_primitives, default_capacity
from tileraster.types import SplatInputs
from timing import compile_all, environment, report, time_program

MOSAIC = [GpuTuning(16, chunk, 4, 4) for chunk in (4, 8, 16, 32)]
TRITON = [
    GpuTuning(tile, chunk, warps, warps)
    for tile, chunk, warps in itertools.product((8, 16, 32), (8, 16), (1, 2, 4, 8))
    if 32 * warps <= tile * tile
]


def time_tuning(inputs: SplatInputs, implementation: str, tuning: GpuTuning, *, pixels: int) -> dict[str, Any]:
    """Milliseconds of compositing the scene and of its gradient."""
    grid = TileGrid(width=pixels, height=pixels, tile=tuning.tile)
    batch, surfels = inputs.opacities.shape
    kernels = gpu_kernels(implementation, tuning)

    @jax.jit
    def lists(inputs: SplatInputs) -> tuple[Any, ...]:
        projected = project_surfels(inputs, near=NEAR)
        features = jnp.concatenate([inputs.colors, projected.normal, jnp.ones((batch, surfels, 1))], axis=-1)
        bins = bin_primitives(projected.boxes, grid, capacity=default_capacity(surfels, grid))
        rows = projected.geometry, features
        return *(value.reshape(batch * surfels, -1) for value in rows), bins

    def forward(geometry: jax.Array, features: jax.Array, bins: Any) -> Any:
        return composite.composite(geometry, features, bins, grid, NEAR, kernels)

    arguments = lists(inputs)
    functions = {"forward_ms": (forward, arguments), "both_ms": (gradient(forward, (0, 1)), arguments)}
    return {name: time_program(program).wall_ms for name, program in compile_all(functions).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, default=40_000)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--interpret", action="store_true", help="Triton's first setting, interpreted")
    parser.add_argument("--output", type=Path, help="JSON, written anew after every setting")
    options = parser.parse_args()
    inputs = head_shell(options.surfels, options.pixels, options.batch)
    sweep = [("pallas_gpu_mosaic", one) for one in MOSAIC] + [("pallas_gpu_triton", one) for one in TRITON]
    if options.interpret:
        sweep = [("pallas_gpu_interpret", GpuTuning(16, 8, 4, 4))]
    result: dict[str, Any] = environment() | {
        "surfels": options.surfels, "pixels": options.pixels, "batch": options.batch, "settings": [], "best": {},
    }  # fmt: skip
    for implementation, tuning in sweep:
        found: dict[str, Any] = {"implementation": implementation, **tuning._asdict()}
        try:
            found |= time_tuning(inputs, implementation, tuning, pixels=options.pixels)
        except Exception as error:  # a setting that does not compile is a result
            found["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        result["settings"].append(found)
        timed = [one for one in result["settings"] if one["implementation"] == implementation and "both_ms" in one]
        if timed:
            result["best"][implementation] = min(timed, key=lambda one: one["both_ms"])
        report(result, options.output)


if __name__ == "__main__":
    main()
