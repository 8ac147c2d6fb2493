"""Time the rasteriser on head-like shells of surfels, stage by stage, beside what the device could do at best.

    python benchmarks/rasteriser.py --output benchmarks/results/rasteriser_DEVICE.json  # all, half an hour on a CPU
    python benchmarks/rasteriser.py --surfels 20000 --pixels 224 --batch 1              # one

Needs the package installed, or PYTHONPATH=.:kernels. Stages are timed alone, each compiled by itself, and their shares
are of the stages' sum; `whole` is the public call.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tileraster
from tileraster import surfel_pairs
from tileraster.binning import Bins, TileGrid, bin_primitives, default_capacity, sum_entries
from tileraster.compositing import TILE, composite
from tileraster.projection import project_surfels
from tileraster.types import SplatInputs
from timing import DevicePeak, device_peak, environment, measure
from tqdm import tqdm

AXES = ("surfels", "pixels", "batch")  # of the grid of scenes
NEAR = 0.01
ROW = 20  # float32 numbers of a surfel that compositing reads, and of an entry's gradient: 13 geometry, 7 features


class Floor(NamedTuple):
    """The least that a stage has to move and to compute."""

    megabytes: float
    gigaops: float

    def milliseconds(self, peak: DevicePeak) -> float:
        return 1e3 * max(1e6 * self.megabytes / peak.bytes_per_s, 1e9 * self.gigaops / peak.operations_per_s)


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


def benchmark_whole(
    inputs: SplatInputs, pixels: int, implementation: str | None, capacity: int
) -> dict[str, dict[str, float]]:
    """The public call, forward and with the gradient of a loss on every output."""

    def image(inputs: SplatInputs) -> tileraster.SurfelImage:
        return tileraster.rasterize_surfels(
            *inputs[:7],
            width=pixels,
            height=pixels,
            background=inputs.background,
            implementation=implementation,
            max_intersections=capacity,
        )

    def loss(inputs: SplatInputs) -> jax.Array:
        out = image(inputs)
        return sum(jnp.sum(value * value) for value in (out.color, out.alpha, out.depth, out.normal, out.distortion))

    if int(jnp.max(jax.jit(image)(inputs).overflow)):
        raise RuntimeError("the scene does not fit its lists: the times would be those of another scene")
    return {
        "forward": measure(image, inputs)._asdict(),
        "forward_and_backward": measure(jax.grad(loss), inputs)._asdict(),
    }


def benchmark_stages(inputs: SplatInputs, grid: TileGrid, capacity: int, peak: DevicePeak) -> dict[str, dict]:
    """The parts of the tiled implementation, from the projection to the sum over entries, and their floors."""
    count = inputs.opacities.size

    def project(inputs: SplatInputs):
        projected = project_surfels(inputs, near=NEAR)
        ones = jnp.ones((*inputs.opacities.shape, 1), jnp.float32)
        features = jnp.concatenate([inputs.colors, projected.normal, ones], axis=-1)
        return (projected.geometry.reshape(count, -1), features.reshape(count, -1)), projected.boxes

    def bins_of(boxes) -> Bins:
        return bin_primitives(boxes, grid, capacity=capacity)

    def forward(geometry, features, bins: Bins):
        return composite(geometry, features, bins, grid, NEAR)

    (geometry, features), boxes = jax.jit(project)(inputs)
    bins = jax.jit(bins_of)(boxes)
    tiles, pull = jax.vjp(lambda geometry, features: forward(geometry, features, bins), geometry, features)
    cotangent = jax.tree.map(jnp.ones_like, tiles)
    keys = jax.random.bits(jax.random.key(0), (inputs.opacities.shape[0], capacity), jnp.uint32)
    rows = jnp.zeros((bins.row.shape[0], ROW), jnp.float32)
    _, pull_projection = jax.vjp(lambda inputs: project(inputs)[0], inputs)

    times = {
        "project": measure(project, inputs).wall_ms,
        "bin": measure(bins_of, boxes).wall_ms,
        "sort": measure(lambda keys: jax.lax.sort(keys, is_stable=False), keys).wall_ms,
        "forward": measure(forward, geometry, features, bins).wall_ms,
        "backward": measure(lambda pull, cotangent: pull(cotangent), pull, cotangent).wall_ms,
        "gather": measure(sum_entries, rows, bins).wall_ms,
        "project_backward": measure(lambda pull, c: pull(c), pull_projection, (geometry, features)).wall_ms,
    }
    times["bin"] -= times["sort"]
    times["backward"] -= times["gather"]
    floors = stage_floors(inputs, grid, entries=int(jnp.sum(bins.entries)), geometry=geometry)
    total = sum(times.values())
    return {
        name: {
            "wall_ms": time,
            "share": time / total,
            "floor_ms": floors[name].milliseconds(peak),
            "multiple_of_floor": time / floors[name].milliseconds(peak),
            **floors[name]._asdict(),
        }
        for name, time in times.items()
    }


def stage_floors(inputs: SplatInputs, grid: TileGrid, *, entries: int, geometry: jax.Array) -> dict[str, Floor]:
    """Every array once through memory, every pair of an entry and a pixel of its tile once through the formulas.

    Pairs behind the stop of a pixel count too, so that on opaque scenes a multiple can fall below what it should be.
    The operations of a pair are those that XLA counts for it, a transcendental function as one.
    """
    count, images = inputs.opacities.size, inputs.opacities.shape[0]
    pixels = images * grid.tiles * TILE**2
    pairs = entries * TILE**2
    outputs = 4 * pixels * (ROW - 13 + 3 + 1)
    surfel_bytes = sum(value.nbytes for value in inputs[:5])
    operations = pair_operations(geometry[:1])
    backward_rows = 4 * ROW * entries
    return {
        "project": Floor((surfel_bytes + 4 * (ROW + 6) * count) / 1e6, 0.0),
        "bin": Floor((4 * 6 * count + 2 * 4 * entries) / 1e6, 0.0),
        "sort": Floor(2 * 4 * entries / 1e6, 0.0),
        "forward": Floor((4 * ROW * entries + outputs) / 1e6, pairs * operations["forward"] / 1e9),
        "backward": Floor(
            (backward_rows + 4 * ROW * entries + 2 * outputs) / 1e6, pairs * operations["backward"] / 1e9
        ),
        "gather": Floor((backward_rows + 4 * ROW * count) / 1e6, 0.0),
        "project_backward": Floor((2 * surfel_bytes + 4 * ROW * count) / 1e6, 0.0),
    }


def pair_operations(geometry: jax.Array) -> dict[str, float]:
    """Floating-point operations of one pair: alpha and depth and ROW - 13 + 3 weighted sums; the same backwards."""
    features = ROW - 13 + 3
    row, x, y = geometry[None], jnp.zeros((1, 1, TILE**2)), jnp.zeros((1, 1, TILE**2))
    origin, basis = jnp.zeros((1, 2)), jnp.zeros((TILE**2, 3))

    def evaluate(row):
        return surfel_pairs.evaluate(row, x, y, near=NEAR)

    def gradient(row, d_alpha, d_depth):
        return surfel_pairs.gradient(row, evaluate(row), d_alpha, d_depth, origin, basis)

    def count(function, *arguments) -> float:
        cost = jax.jit(function).lower(*arguments).compile().cost_analysis()
        return (cost["flops"] + cost.get("transcendentals", 0.0)) / TILE**2

    # Beside the pair formulas: running products and 2 operations per weighted sum, backwards twice that.
    return {
        "forward": count(evaluate, row) + 2 * features + 4,
        "backward": count(gradient, row, x, y) + 4 * features + 8,
    }


def benchmark(count: int, pixels: int, batch: int, implementation: str | None, peak: DevicePeak) -> dict[str, object]:
    inputs = head_shell(count, pixels, batch)
    grid = TileGrid(width=pixels, height=pixels, tile=TILE)
    # Few surfels that fill a large image touch more tiles than the default makes room for.
    capacity = max(default_capacity(count, grid), measured_capacity(inputs, pixels))
    entries = jax.jit(
        lambda inputs: bin_primitives(project_surfels(inputs, near=NEAR).boxes, grid, capacity=capacity).entries
    )(inputs)
    whole = benchmark_whole(inputs, pixels, implementation, capacity)
    report = {
        "surfels": count,
        "pixels": pixels,
        "batch": batch,
        "entries_per_surfel": float(jnp.mean(entries)),
        "max_intersections": capacity,
        "ms_per_image": {name: timing["wall_ms"] / batch for name, timing in whole.items()},
        "whole": whole,
    }
    if implementation in (None, "xla"):
        report["stages"] = benchmark_stages(inputs, grid, capacity, peak)
    return report


def measured_capacity(inputs: SplatInputs, pixels: int) -> int:
    arrays = inputs.means, inputs.quats, inputs.scales, inputs.opacities, inputs.viewmats, inputs.intrinsics
    return tileraster.measure_capacity(*arrays, width=pixels, height=pixels, headroom=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, nargs="+", default=[5000, 20_000, 40_000])
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 224, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--implementation", choices=["reference", "xla", "pallas_gpu", "pallas_tpu"])
    parser.add_argument("--output", type=Path, default=Path("rasteriser.json"), help="scenes already in it are kept")
    arguments = parser.parse_args()
    peak = device_peak()
    report = environment() | {"peak": peak._asdict(), "implementation": arguments.implementation or "default"}
    done = json.loads(arguments.output.read_text())["scenes"] if arguments.output.exists() else []
    known = {tuple(scene[name] for name in AXES) for scene in done}
    scenes = [one for one in itertools.product(*(getattr(arguments, name) for name in AXES)) if one not in known]
    for scene in tqdm(scenes, unit="scene"):
        done.append(benchmark(*scene, arguments.implementation, peak))
        arguments.output.write_text(json.dumps(report | {"scenes": done}, indent=1) + "\n")


if __name__ == "__main__":
    main()
