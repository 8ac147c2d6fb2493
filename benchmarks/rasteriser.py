"""Time the rasteriser on head-like shells of surfels, stage by stage, beside what the device could do at best.

    python benchmarks/rasteriser.py --output benchmarks/results/rasteriser_DEVICE.json  # all, half an hour on a CPU
    python benchmarks/rasteriser.py --surfels 20000 --pixels 224 --batch 1              # one
    python benchmarks/rasteriser.py --implementations xla pallas_gpu_mosaic pallas_gpu_triton --surfels 40000 \\
        --pixels 224 --batch 1 32 --stages 32                                           # on a GPU

Needs the package installed, or PYTHONPATH=.:kernels. Stages are timed alone, each compiled by itself, and their shares
are of the stages' sum; `whole` is the public call.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tileraster
from profiling import profile
from scenes import capacity_for, head_shell
from tileraster.backends import compositor_of
from tileraster.splats import surfel_pairs
from tileraster.splats.composited import Compositor
from tileraster.splats.projection import project_surfels
from tileraster.tiling.binning import Bins, TileGrid, bin_primitives
from tileraster.types import SplatInputs
from tileraster.validation import choose_implementation
from timing import (
    CompiledProgram,
    DevicePeak,
    Timing,
    compile_all,
    device_peak,
    environment,
    time_program,
    wait_for_turn,
)
from tqdm import tqdm

AXES = ("surfels", "pixels", "batch", "implementation")  # of the grid of scenes
NEAR = 0.01
PROFILED, LONGEST = 5, 40  # calls under the profiler, operations listed
ROW = 20  # float32 numbers of a surfel that compositing reads, and of an entry's gradient: 13 geometry, 7 features
SUMS = ROW - 13 + 3  # numbers of a pixel: features, depth and two of the distortion
Functions = dict[str, tuple[Callable, tuple[Any, ...]]]  # each with its arguments


class Floor(NamedTuple):
    """The least that a stage has to move and to compute."""

    megabytes: float
    gigaops: float

    def milliseconds(self, peak: DevicePeak) -> float:
        return 1e3 * max(1e6 * self.megabytes / peak.bytes_per_s, 1e9 * self.gigaops / peak.operations_per_s)


class Scene(NamedTuple):
    """What is drawn, and how."""

    inputs: SplatInputs
    grid: TileGrid
    implementation: str
    capacity: int

    @property
    def compositor(self) -> Compositor:
        return compositor_of(self.implementation)


def make_scene(surfels: int, pixels: int, batch: int, implementation: str) -> Scene:
    inputs = head_shell(surfels, pixels, batch)
    grid = TileGrid(width=pixels, height=pixels, tile=compositor_of(implementation).tile)
    return Scene(inputs, grid, implementation, capacity_for(inputs, grid, implementation))


def whole_functions(scene: Scene) -> dict[str, Callable[[SplatInputs], Any]]:
    """The public call, forward and with the gradient of a loss on every output."""

    def image(inputs: SplatInputs) -> tileraster.SurfelImage:
        return tileraster.rasterize_surfels(
            *inputs[:7],
            width=scene.grid.width,
            height=scene.grid.height,
            background=inputs.background,
            implementation=scene.implementation,
            max_intersections=scene.capacity,
        )

    def differentiable(inputs: SplatInputs) -> tuple[jax.Array, ...]:
        out = image(inputs)
        return out.color, out.alpha, out.depth, out.normal, out.distortion

    return {"forward": image, "forward_and_backward": gradient(differentiable, 0)}


def stage_functions(scene: Scene) -> Functions:
    """The parts of the tiled implementation, from the projection to the gradients of the primitives.

    `..._and_backward` runs the stage in front of its gradient as well.
    """
    inputs, grid = scene.inputs, scene.grid
    batch, surfels = inputs.opacities.shape

    def project(inputs: SplatInputs) -> tuple[tuple[jax.Array, jax.Array], Any]:
        projected = project_surfels(inputs, near=NEAR)
        ones = jnp.ones((batch, surfels, 1), jnp.float32)
        features = jnp.concatenate([inputs.colors, projected.normal, ones], axis=-1)
        return (projected.geometry.reshape(batch * surfels, -1), features.reshape(batch * surfels, -1)), projected.boxes

    def bins_of(boxes: Any) -> Bins:
        return bin_primitives(boxes, grid, capacity=scene.capacity)

    def forward(geometry: jax.Array, features: jax.Array, bins: Bins) -> Any:
        return scene.compositor.composite(geometry, features, bins, grid, NEAR)

    rows, boxes = jax.jit(project)(inputs)
    bins = jax.jit(bins_of)(boxes)
    keys = jax.random.bits(jax.random.key(0), (batch, scene.capacity), jnp.uint32)
    return {
        "project": (project, (inputs,)),
        "bin": (bins_of, (boxes,)),
        "sort": (lambda keys: jax.lax.sort(keys, is_stable=False), (keys,)),
        "forward": (forward, (*rows, bins)),
        "forward_and_backward": (gradient(forward, (0, 1)), (*rows, bins)),
        "project_and_backward": (gradient(lambda inputs: project(inputs)[0], 0), (inputs,)),
    }


def gradient(function: Callable, arguments: int | tuple[int, ...]) -> Callable:
    """Of the sum of squares of all that `function` returns."""

    def loss(*values: Any) -> jax.Array:
        return sum((jnp.sum(value * value) for value in jax.tree.leaves(function(*values))), jnp.float32(0))

    return jax.grad(loss, argnums=arguments)


def stage_report(scene: Scene, functions: Functions, timed: dict[str, float], peak: DevicePeak) -> dict[str, dict]:
    """Time of each stage, from those of its functions, beside its floor."""
    times = {
        "project": timed["project"],
        "bin": timed["bin"] - timed["sort"],
        "sort": timed["sort"],
        "forward": timed["forward"],
        "backward": timed["forward_and_backward"] - timed["forward"],
        "project_backward": timed["project_and_backward"] - timed["project"],
    }
    geometry, _, bins = functions["forward"][1]
    floors = stage_floors(scene, entries=int(jnp.sum(bins.entries)), geometry=geometry)
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


def stage_floors(scene: Scene, *, entries: int, geometry: jax.Array) -> dict[str, Floor]:
    """Every array once through memory, every pair of an entry and a pixel of its tile once through the formulas.

    Pairs behind the stop of a pixel count too, so that on opaque scenes a multiple can fall below what it should be.
    The operations of a pair are those that XLA counts for it, a transcendental function as one.
    """
    inputs, grid = scene.inputs, scene.grid
    count, images = inputs.opacities.size, inputs.opacities.shape[0]
    pixels = images * grid.tiles * grid.tile**2
    pairs = entries * grid.tile**2
    outputs = 4 * pixels * (SUMS + 1)
    surfel_bytes = sum(value.nbytes for value in inputs[:5])
    operations = pair_operations(geometry[:1], tile=grid.tile)
    entry_rows = 4 * ROW * entries  # gradients of the entries: written, then read to be added up
    return {
        "project": Floor((surfel_bytes + 4 * (ROW + 6) * count) / 1e6, 0.0),
        "bin": Floor((4 * 6 * count + 2 * 4 * entries) / 1e6, 0.0),
        "sort": Floor(2 * 4 * entries / 1e6, 0.0),
        "forward": Floor((4 * ROW * entries + outputs) / 1e6, pairs * operations["forward"] / 1e9),
        "backward": Floor(
            (2 * entry_rows + 4 * ROW * (entries + count) + 2 * outputs) / 1e6, pairs * operations["backward"] / 1e9
        ),
        "project_backward": Floor((2 * surfel_bytes + 4 * ROW * count) / 1e6, 0.0),
    }


def pair_operations(geometry: jax.Array, *, tile: int) -> dict[str, float]:
    """Floating-point operations of one pair: alpha and depth and SUMS weighted sums; the same backwards."""
    pixels = tile**2
    row, x, y = geometry[None], jnp.zeros((1, 1, pixels)), jnp.zeros((1, 1, pixels))
    origin, basis = jnp.zeros((1, 2)), jnp.zeros((pixels, 3))

    def evaluate(row):
        return surfel_pairs.evaluate(row, x, y, near=NEAR)

    def gradient(row, d_alpha, d_depth):
        return surfel_pairs.gradient(row, evaluate(row), d_alpha, d_depth, origin, basis)

    def count(function, *arguments) -> float:
        cost = jax.jit(function).lower(*arguments).compile().cost_analysis()
        return (cost["flops"] + cost.get("transcendentals", 0.0)) / pixels

    # Beside the pair formulas: running products and 2 operations per weighted sum, backwards twice that.
    return {
        "forward": count(evaluate, row) + 2 * SUMS + 4,
        "backward": count(gradient, row, x, y) + 4 * SUMS + 8,
    }


class Prepared(NamedTuple):
    """A scene with its compiled programs."""

    scene: Scene
    whole: dict[str, CompiledProgram]
    parts: Functions
    stages: dict[str, CompiledProgram]


def prepare(scene: Scene, *, stages: bool) -> Prepared:
    whole = {name: (one, (scene.inputs,)) for name, one in whole_functions(scene).items()}
    parts = stage_functions(scene) if stages and scene.implementation != "reference" else {}
    programs = compile_all(
        {("whole", name): job for name, job in whole.items()} | {("stages", name): job for name, job in parts.items()}
    )
    of_kind = {
        kind: {name: one for (own, name), one in programs.items() if own == kind} for kind in ("whole", "stages")
    }
    return Prepared(scene, of_kind["whole"], parts, of_kind["stages"])


def measure(prepared: Prepared, *, profiled: bool) -> dict[str, Any]:
    """Times of one scene drawn by one implementation, as a whole and by its stages."""
    scene = prepared.scene
    if int(jnp.max(prepared.whole["forward"]().overflow)):
        raise RuntimeError(f"the scene does not fit the lists of {scene.implementation}: it would be another scene")
    report = describe(scene, {name: time_program(program) for name, program in prepared.whole.items()})
    if prepared.stages:
        timed = {name: time_program(program).wall_ms for name, program in prepared.stages.items()}
        report["stages"] = stage_report(scene, prepared.parts, timed, device_peak())
        if profiled:
            report["longest"] = longest_operations(prepared.whole["forward_and_backward"])
    return report


def longest_operations(program: CompiledProgram) -> list[dict[str, Any]]:
    """Of one call."""
    return [one._asdict() for one in profile(program, program.run.as_text(), calls=PROFILED)[:LONGEST]]


def describe(scene: Scene, whole: dict[str, Timing]) -> dict[str, Any]:
    batch, surfels = scene.inputs.opacities.shape
    boxes = jax.jit(lambda inputs: project_surfels(inputs, near=NEAR).boxes)(scene.inputs)
    bins = jax.jit(lambda boxes: bin_primitives(boxes, scene.grid, capacity=scene.capacity))(boxes)
    return {
        "surfels": surfels,
        "pixels": scene.grid.width,
        "batch": batch,
        "implementation": scene.implementation,
        "entries_per_surfel": float(jnp.mean(bins.entries)),
        "max_intersections": scene.capacity,
        "ms_per_image": {name: timing.wall_ms / batch for name, timing in whole.items()},
        "whole": {name: timing._asdict() for name, timing in whole.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, nargs="+", default=[5000, 20_000, 40_000])
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 224, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--implementations", nargs="+", help="default: the one that the device takes by itself")
    parser.add_argument("--stages", type=int, nargs="*", metavar="BATCH", help="batches whose stages are timed: all")
    parser.add_argument("--profile", action="store_true", help="list the longest operations, where stages are timed")
    parser.add_argument("--output", type=Path, default=Path("rasteriser.json"), help="scenes already in it are kept")
    options = parser.parse_args()
    implementations = options.implementations or [choose_implementation(None, jnp.float32)]
    report = environment()
    done = json.loads(options.output.read_text())["scenes"] if options.output.exists() else []
    known = {tuple(scene[name] for name in AXES) for scene in done}
    wanted = [
        (*one, name)
        for *one, name in itertools.product(options.surfels, options.pixels, options.batch, implementations)
        if (*one, name) not in known
    ]
    # On an accelerator all programs are compiled before one is timed: compilers try their kernels on the device.
    groups = [[one] for one in wanted] if jax.default_backend() == "cpu" else [wanted]
    for group in tqdm(groups):
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(prepare, make_scene(*one), stages=options.stages is None or one[2] in options.stages)
                for one in group
            ]
            prepared = [job.result() for job in jobs]
        wait_for_turn()
        for one in prepared:
            done.append(measure(one, profiled=options.profile))
            found = report | {"peak": device_peak()._asdict(), "scenes": done}
            options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
