"""The hand-written GPU kernels on their device: do they agree with XLA's, and are gradients the same at every run?

    python benchmarks/gpu_kernels.py --output benchmarks/results/gpu_kernels.json
    python benchmarks/gpu_kernels.py --surfels 300 --batch 1 --pixels 48 --runs 2 --implementations xla reference

Beside it belong, on the same device, the shared test suite, which there takes these kernels instead of interpreted
ones, and the times:

    python -m pytest tests/kernels -n 4
    python benchmarks/rasteriser.py --implementation pallas_gpu --surfels 40000 --pixels 224 --batch 32
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tileraster
from rasteriser import head_shell, measured_capacity
from tileraster.binning import TileGrid, default_capacity
from tileraster.compositing import TILE
from tileraster.types import SplatInputs
from timing import environment, report

OUTPUTS = ("color", "alpha", "depth", "normal", "distortion")


def gradients(inputs: SplatInputs, *, pixels: int, capacity: int, implementation: str) -> Callable[[], Any]:
    """A compiled call that returns the gradients of a loss on every output, and those outputs, as NumPy arrays."""

    def loss(inputs: SplatInputs) -> Any:
        image = tileraster.rasterize_surfels(
            *inputs[:7],
            width=pixels,
            height=pixels,
            background=inputs.background,
            implementation=implementation,
            max_intersections=capacity,
        )
        values = {name: getattr(image, name) for name in OUTPUTS}
        return sum(jnp.mean(value * value) for value in values.values()), values

    compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(inputs).compile()
    return lambda: jax.device_get(compiled(inputs))


def same_bytes(one: Any, other: Any) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over that of the expected."""
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, default=40_000)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--implementations", nargs="+", default=["xla", "pallas_gpu"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    inputs = head_shell(options.surfels, options.pixels, options.batch)
    grid = TileGrid(width=options.pixels, height=options.pixels, tile=TILE)
    capacity = max(default_capacity(options.surfels, grid), measured_capacity(inputs, options.pixels))
    result: dict[str, Any] = environment() | {
        "surfels": options.surfels, "pixels": options.pixels, "batch": options.batch, "runs": options.runs,
    }  # fmt: skip
    first = None
    for name in options.implementations:
        run = gradients(inputs, pixels=options.pixels, capacity=capacity, implementation=name)
        found = run()
        equal = sum(same_bytes(found, run()) for _ in range(options.runs))
        result[name] = {"bit_equal_runs": equal}
        if first is None:
            first = found
        else:
            (slopes, outputs), (expected_slopes, expected_outputs) = found, first
            pairs = {
                f"gradient of {key}": (getattr(slopes, key), getattr(expected_slopes, key)) for key in slopes._fields
            }
            pairs |= {key: (outputs[key], expected_outputs[key]) for key in OUTPUTS}
            result[name]["difference_from_first"] = {key: relative_difference(*pair) for key, pair in pairs.items()}
        report(result, options.output)


if __name__ == "__main__":
    main()
