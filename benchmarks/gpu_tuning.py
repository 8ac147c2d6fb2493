"""Sweep of the numbers that tune the GPU kernels: tile, entries per chunk, warps.

    python benchmarks/gpu_tuning.py --output benchmarks/results/gpu_tuning.json
    python benchmarks/gpu_tuning.py --surfels 300 --pixels 48 --batch 1 --interpret       # a toy, on any device

Times compositing, the only part of the rasteriser that the numbers change, forward and with its gradient, and compares
the gradients with those of the first setting. The best numbers of each compiler come last. They go into
`tileraster.pallas.tuning`, as MOSAIC_TUNING and TRITON_TUNING.
"""

import argparse
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from tileraster.tiling.binning import Bins, TileGrid, bin_primitives, default_capacity
from tileraster.types import SplatInputs
from timing import CompiledProgram, compile_program, environment, report, time_program, wait_for_turn

SETTINGS = [
    *[("pallas_gpu_mosaic", GpuTuning(16, chunk, 4, 4)) for chunk in (32, 8)],
    *[
        ("pallas_gpu_triton", GpuTuning(tile, chunk, warps, warps))
        for tile, chunk, warps in (
            *[(8, chunk, 1) for chunk in (4, 8, 16, 32, 64)],
            (8, 32, 2),
            *[(16, 32, warps) for warps in (1, 2, 4)],
        )
    ],
]
INTERPRETED = [("pallas_gpu_interpret", GpuTuning(16, 8, 4, 4))]
Program = tuple[Callable[..., Any], tuple[Any, ...]]  # with its arguments


def composite_programs(inputs: SplatInputs, implementation: str, tuning: GpuTuning, *, pixels: int) -> list[Program]:
    """Compositing the scene, and its gradient."""
    grid = TileGrid(width=pixels, height=pixels, tile=tuning.tile)
    kernels = gpu_kernels(implementation, tuning)

    def forward(geometry: jax.Array, features: jax.Array, bins: Bins) -> Any:
        return composite.composite(geometry, features, bins, grid, NEAR, kernels)

    arguments = _primitives(inputs, grid)
    return [(forward, arguments), (gradient(forward, (0, 1)), arguments)]


@functools.partial(jax.jit, static_argnums=1)
def _primitives(inputs: SplatInputs, grid: TileGrid) -> tuple[jax.Array, jax.Array, Bins]:
    batch, surfels = inputs.opacities.shape
    projected = project_surfels(inputs, near=NEAR)
    features = jnp.concatenate([inputs.colors, projected.normal, jnp.ones((batch, surfels, 1))], axis=-1)
    bins = bin_primitives(projected.boxes, grid, capacity=default_capacity(surfels, grid))
    return projected.geometry.reshape(batch * surfels, -1), features.reshape(batch * surfels, -1), bins


def try_compile(program: Program) -> CompiledProgram | str:
    """Or the message of the error: a setting that does not compile is a result."""
    function, arguments = program
    try:
        return compile_program(function, *arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"


def time_programs(both: list[CompiledProgram | str]) -> tuple[dict[str, Any], Any]:
    """Milliseconds of the two programs, and the gradient."""
    found: dict[str, Any] = {}
    for name, program in zip(("forward_ms", "both_ms"), both, strict=True):
        if isinstance(program, str):
            return found | {"error": program}, None
        found[name] = time_program(program).wall_ms
    return found, both[1]() if not isinstance(both[1], str) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, default=40_000)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--interpret", action="store_true", help="one setting, interpreted")
    parser.add_argument("--output", type=Path, help="JSON, written anew after every setting")
    options = parser.parse_args()
    inputs = head_shell(options.surfels, options.pixels, options.batch)
    settings = INTERPRETED if options.interpret else SETTINGS
    result: dict[str, Any] = environment() | {
        "surfels": options.surfels, "pixels": options.pixels, "batch": options.batch, "settings": [], "best": {},
    }  # fmt: skip
    programs = [composite_programs(inputs, *setting, pixels=options.pixels) for setting in settings]
    with ThreadPoolExecutor() as pool:  # most of the time is compiling
        compiled = list(pool.map(try_compile, [one for both in programs for one in both]))
    wait_for_turn()
    expected = None
    for k, (implementation, tuning) in enumerate(settings):
        found, slopes = time_programs(compiled[2 * k : 2 * k + 2])
        expected = slopes if expected is None else expected
        if slopes is not None:  # of the geometry and of the features
            found["difference"] = [float(relative(*pair)) for pair in zip(slopes, expected, strict=True)]
        result["settings"].append({"implementation": implementation, **tuning._asdict(), **found})
        timed = [one for one in result["settings"] if one["implementation"] == implementation and "both_ms" in one]
        if timed:
            result["best"][implementation] = min(timed, key=lambda one: one["both_ms"])
        report(result, options.output)


@jax.jit
def relative(found: jax.Array, expected: jax.Array) -> jax.Array:
    return jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)


if __name__ == "__main__":
    main()
