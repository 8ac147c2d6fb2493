"""The hand-written GPU kernels on their device: are they right, and are gradients the same at every run?

    python benchmarks/gpu_kernels.py --output benchmarks/results/gpu_kernels.json
    python benchmarks/gpu_kernels.py --surfels 300 --batch 1 --pixels 48 --runs 2 --implementations xla     # a toy

Three comparisons for each implementation: the float64 golden files; ellipsoids with the brute-force reference; a head
shell of the training's size with the first implementation. Then equal runs of that shell, bit by bit. `wrong` lists
what is beyond its tolerance.
"""

import argparse
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tileraster
from scenes import capacity_for, head_shell
from tileraster.backends import compositor_of
from tileraster.tiling.binning import TileGrid
from tileraster.types import SplatInputs
from timing import CompiledProgram, compile_program, environment, report

from tests.kernels import golden
from tests.kernels.cases import OUTPUTS, SIZE, call, relative_error, render

ELLIPSOIDS, ELLIPSOID_PIXELS = 500, 64
MOST_RELATIVE = 2e-3  # difference of images and gradients between two float32 implementations


def check_golden(implementation: str) -> dict[str, Any]:
    """Errors of image and gradients on every golden file."""
    found = {}
    for name in golden.SMALL:
        truth = golden.load(name)
        result = render(
            golden.scene_of(truth, jnp.float32), implementation, golden.weights_of(truth, jnp.float32, **SIZE)
        )
        found[name] = golden.errors(truth, result.image, result.gradients)
    truth = golden.load(golden.HEAD)
    size = golden.size_of(truth)
    weights = golden.weights_of(truth, jnp.float32, **size)

    @jax.jit
    def loss(scene: Any) -> Any:
        image = call(scene, implementation, **size)
        return sum(jnp.sum(weights[name] * getattr(image, name)) for name in OUTPUTS), image

    gradients, image = jax.jit(jax.grad(loss, has_aux=True))(golden.scene_of(truth, jnp.float32))
    found[golden.HEAD] = golden.errors(truth, image, gradients)
    wrong = [f"{name}, {line}" for name, one in found.items() for line in one.beyond(*golden.FLOAT32)]
    return {"errors": {name: one._asdict() for name, one in found.items()}, "wrong": wrong}


def gradient_program(inputs: SplatInputs, *, pixels: int, implementation: str) -> CompiledProgram:
    """Gradients of a loss on every output, and these outputs."""
    surfels = inputs.scales.shape[-1] == 2
    rasterize = tileraster.rasterize_surfels if surfels else tileraster.rasterize_ellipsoids
    capacity = None
    if implementation != "reference":
        grid = TileGrid(width=pixels, height=pixels, tile=compositor_of(implementation).tile)
        capacity = capacity_for(inputs, grid, implementation)

    def loss(inputs: SplatInputs) -> Any:
        image = rasterize(
            *inputs[:7],
            width=pixels,
            height=pixels,
            background=inputs.background,
            screen_probe=inputs.screen_probe,
            implementation=implementation,
            max_intersections=capacity,
        )
        values = {name: getattr(image, name) for name in OUTPUTS if hasattr(image, name)}
        return sum(jnp.mean(value * value) for value in values.values()), values

    return compile_program(jax.grad(loss, has_aux=True), inputs)


def differences(found: Any, expected: Any) -> dict[str, Any]:
    """Relative differences of outputs and gradients, and which are too large."""
    (slopes, outputs), (expected_slopes, expected_outputs) = found, expected
    pairs = {f"gradient of {key}": (getattr(slopes, key), getattr(expected_slopes, key)) for key in slopes._fields}
    pairs |= {key: (outputs[key], expected_outputs[key]) for key in outputs}
    errors = {key: relative_error(*pair) for key, pair in pairs.items()}
    return {"relative": errors, "wrong": [key for key, error in errors.items() if not error <= MOST_RELATIVE]}


def same_bytes(one: Any, other: Any) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def check_ellipsoids(implementation: str) -> dict[str, Any]:
    inputs = head_shell(ELLIPSOIDS, ELLIPSOID_PIXELS, 1, scales=3)
    names = implementation, "reference"
    found, expected = (
        jax.device_get(gradient_program(inputs, pixels=ELLIPSOID_PIXELS, implementation=name)()) for name in names
    )
    return differences(found, expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, default=40_000)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--implementations", nargs="+", default=["xla", "pallas_gpu_mosaic", "pallas_gpu_triton"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    inputs = head_shell(options.surfels, options.pixels, options.batch)
    result: dict[str, Any] = environment() | {
        "surfels": options.surfels, "pixels": options.pixels, "batch": options.batch, "runs": options.runs,
    }  # fmt: skip
    check = functools.partial(check_implementation, inputs, pixels=options.pixels, runs=options.runs)
    with ThreadPoolExecutor() as pool:  # most of the time is compiling
        checks = {name: pool.submit(check, name) for name in options.implementations}
        first = None
        for name, job in checks.items():
            result[name], found = job.result()
            first = found if first is None else first
            if found is not None:
                result[name]["head_shell"] = differences(found, first)
            report(result, options.output)
    failed = [name for name in options.implementations if not is_right(result[name], options.runs)]
    if failed:
        sys.exit(f"not right: {', '.join(failed)}; see 'wrong' and 'error' above")


def check_implementation(
    inputs: SplatInputs, implementation: str, *, pixels: int, runs: int
) -> tuple[dict[str, Any], Any]:
    """The findings, and gradients and outputs of the head shell; None in their place after an error."""
    found: dict[str, Any] = {}
    try:
        found["golden"] = check_golden(implementation)
        found["ellipsoids"] = check_ellipsoids(implementation)
        program = gradient_program(inputs, pixels=pixels, implementation=implementation)
        first = jax.device_get(program())
        found["bit_equal_runs"] = sum(same_bytes(first, jax.device_get(program())) for _ in range(runs))
    except Exception as error:  # a compiler that gives up must not hide what the others do
        return found | {"error": f"{type(error).__name__}: {str(error)[:2000]}"}, None
    return found, first


def is_right(found: dict[str, Any], runs: int) -> bool:
    """Whether an implementation did everything, within the tolerances and the same every time."""
    compared = [found.get(name, {"wrong": ["missing"]}) for name in ("golden", "ellipsoids", "head_shell")]
    return not any(one["wrong"] for one in compared) and found["bit_equal_runs"] == runs


if __name__ == "__main__":
    main()
