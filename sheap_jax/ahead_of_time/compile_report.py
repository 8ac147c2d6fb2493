"""What a run would cost on TPUs or GPUs that are not here, from programs compiled ahead of time:

    sheap compile-report base --topology v5p:4x8x8 --batch-per-chip 16

Compiles the run's rendered training step with the compiler for TPUs (`pip install "jax[tpu]"`) or for GPUs (`pip
install "jax[cuda13]"`, topologies such as h200). It needs no device, no weights and no
data. It prints memory, operations and traffic per chip, the transfers between chips, and a roofline estimate of the
step's time, on TPUs for other numbers of chips as well. `--save` keeps the result in benchmarks/results/scale.json and
writes the table of docs/scale.md anew.
Compiling the paper's step takes many minutes and a few GiB.
"""

import dataclasses
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sheap_jax import assembly, command_line, config_files
from sheap_jax.ahead_of_time import program_cost
from sheap_jax.ahead_of_time.abstract_run import abstract_run
from sheap_jax.ahead_of_time.accelerators import GPUS, find_target, prepare
from sheap_jax.ahead_of_time.roofline import CHIPS, ENTRIES_PER_SURFEL, Assumptions, StepTime, StepWork, step_time
from sheap_jax.config import Config
from sheap_jax.config_checks import check_config
from sheap_jax.files.json_files import read_json
from sheap_jax.training import sharding, start
from sheap_jax.training.step import make_step

ERRORS = (OSError, ValueError)
ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "benchmarks/results/scale.json", ROOT / "docs/scale.md"
BUNDLES = Path(__file__).with_name("tpu_bundles.json")  # in an installed package
if not BUNDLES.exists():
    BUNDLES = ROOT / "benchmarks/results/tpu_bundles.json"
START, END = "<!-- scale table: start -->", "<!-- scale table: end -->"
# Named scopes of the step, inner ones before those that hold them.
PARTS = ("lpips", "losses", "dinov2", "uv_generator", "graph", "regressor", "estimator", "head_model", "binding")
PARTS += ("surfels", "z_buffer", "optimizer")
SIZES = (8, 16, 32, 64, 128, 256, 512)  # chips of the estimate


class CompileReport(NamedTuple):
    """One compiled step. Bytes and operations are per chip."""

    config: str
    topology: str
    chips: int
    fsdp: int
    batch_per_chip: int
    accumulate: int
    memory: dict[str, int]  # by kind; "total" is what must fit
    capacity: int
    flops: float  # matrix products and convolutions, counted in the trace
    xla_flops: float  # XLA's count: loops once, kernels not at all
    bytes: float  # memory traffic (program_cost.traffic), loops of unknown length once
    traffic: list[program_cost.Traffic]  # the same by part of the step
    xla_bytes: float  # XLA's count, which takes operands of fusions many times
    collectives: list[program_cost.Collective]
    loops: list[int]
    entries: float
    bundles: float
    compile_seconds: float
    notes: list[str]
    versions: dict[str, str]


def compile_step(config: Config, topology_name: str, *, batch_per_chip: int) -> CompileReport:
    """Compile the rendered step of `config` for what `topology_name` says. Raises as `find_target` does."""
    target = find_target(topology_name)
    kind, devices = target.chip, target.devices
    fsdp, accumulate = config.devices.fsdp, config.optimizer.accumulate
    if devices.size % fsdp:
        raise ValueError(f"--fsdp {fsdp} does not divide the {devices.size} chips of {topology_name}")
    if batch_per_chip < 1 or batch_per_chip % accumulate:
        raise ValueError(
            f"--batch-per-chip is {batch_per_chip}, it must be at least 1 and a multiple of "
            f"config.optimizer.accumulate {accumulate}"
        )
    mesh = Mesh(devices.reshape(-1, fsdp), sharding.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)
    run = abstract_run(config, batch_size=batch_per_chip * devices.size)
    shardings = sharding.state_shardings(run.state, mesh)
    state = jax.tree.map(_placed, run.state, shardings)
    assets = jax.tree.map(lambda leaf: _placed(leaf, NamedSharding(mesh, P())), run.assets)
    batch = jax.tree.map(lambda leaf: _placed(leaf, NamedSharding(mesh, P(sharding.AXES))), run.batch)
    step: Any = make_step(
        run.networks,
        start.build_optimizers(config),
        config.losses,
        assembly.render_settings(dataclasses.replace(config, rasterizer=target.rasterizer)),
        rendered=True,
        accumulate=accumulate,
        shardings=shardings,
    )
    begin = time.monotonic()
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        traced = step.trace(state, assets, batch)
        compiled = traced.lower().compile()
    analysis: Any = compiled.cost_analysis() or {}  # compilers for absent GPUs say nothing
    text = compiled.as_text()
    traffic = program_cost.traffic(text, parts=PARTS)
    bundles = read_json(BUNDLES)["targets"].get(kind, {})
    surfels = run.state.prototypes.parent_face.shape[0]
    return CompileReport(
        config=config.name,
        topology=topology_name,
        chips=devices.size,
        fsdp=fsdp,
        batch_per_chip=batch_per_chip,
        accumulate=accumulate,
        memory=_memory(compiled, state, assets, batch),
        capacity=int(CHIPS[kind].memory),
        flops=program_cost.matrix_flops(traced.jaxpr),
        xla_flops=float(analysis.get("flops", 0)),
        bytes=float(sum(one.bytes for one in traffic)),
        traffic=traffic,
        xla_bytes=float(analysis.get("bytes accessed", 0)),
        collectives=program_cost.collectives(text),
        loops=program_cost.loops(text),
        entries=batch_per_chip * surfels * ENTRIES_PER_SURFEL[target.rasterizer],
        bundles=sum(bundles[kernel]["bundles_per_entry"] for kernel in bundles if kernel in ("forward", "backward")),
        compile_seconds=round(time.monotonic() - begin),
        notes=run.notes,
        versions={name: version(name) for name in ("jax", "jaxlib" if kind in GPUS else "libtpu")},
    )


def _placed(leaf: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _memory(compiled: Any, state: Any, assets: Any, batch: Any) -> dict[str, int]:
    analysis = compiled.memory_analysis()
    parts = {
        "parameters": program_cost.bytes_per_device(state.params),
        "optimiser": program_cost.bytes_per_device(state.opt_state),
        "frozen networks": program_cost.bytes_per_device(assets.frozen),
        "head model": program_cost.bytes_per_device(assets._replace(frozen={})),
        "batch": program_cost.bytes_per_device(batch),
        "temporary": int(analysis.temp_size_in_bytes),
        "program": int(analysis.generated_code_size_in_bytes),
    }
    # Arguments in the layout that the compiler chose, padded; the new state takes the old one's place.
    new = int(analysis.output_size_in_bytes) - int(analysis.alias_size_in_bytes)
    arguments = int(analysis.argument_size_in_bytes)
    return parts | {"total": arguments + max(new, 0) + parts["temporary"] + parts["program"]}


def estimate(report: CompileReport, chips: int) -> StepTime:
    """The step's time on another number of chips of the same kind, with the same batch on each."""
    chip = CHIPS[report.topology.split(":")[0]]
    sizes = {one.kind: one.bytes for one in report.collectives}
    # A scatter sends its whole input; each of the chips that share it keeps a part.
    gathered = sizes.get("all-gather", 0) + report.fsdp * sizes.get("reduce-scatter", 0)
    work = StepWork(
        flops=report.flops,
        bytes=report.bytes,
        entries=report.entries,
        bundles=report.bundles,
        reduced=sizes.get("all-reduce", 0),
        gathered=gathered,
        transfers=sum(one.operations for one in report.collectives),
    )
    return step_time(work, chip, Assumptions(), chips=chips, fsdp=report.fsdp)


def describe(report: CompileReport) -> str:
    """The report as text."""
    where = f"{report.chips} chips, {report.batch_per_chip} pairs on each, fsdp {report.fsdp}"
    fits = "fits" if report.memory["total"] <= report.capacity else "DOES NOT FIT"
    counts = f"{report.flops / 1e12:.2f} TFLOP (XLA counts {report.xla_flops / 1e12:.2f})"
    lines = [
        *report.notes,
        f"{report.config} on {report.topology}: {where}; compiled in {report.compile_seconds:.0f} s",
        *(f"  {kind:16}{size / 2**20:10.1f} MiB" for kind, size in report.memory.items()),
        f"  {fits} into {report.capacity / 2**30:.0f} GiB",
        f"  {counts}, {report.bytes / 1e9:.1f} GB of memory traffic (XLA counts {report.xla_bytes / 1e9:.1f}), "
        f"{report.entries / 1e6:.2f} M rasteriser entries",
        "  traffic in GB: " + ", ".join(f"{one.part} {one.bytes / 1e9:.1f}" for one in report.traffic),
    ]
    known = [length for length in report.loops if length]
    lines.append(f"  {len(report.loops)} loops, of known length: {known}; XLA takes each once")
    lines += [f"  {one.kind}: {one.operations} operations, {one.bytes / 2**20:.1f} MiB" for one in report.collectives]
    alone = estimate(report, 1)
    lines.append(
        f"{'chips':>7}{'compute':>10}{'raster':>10}{'transfer':>10}{'step':>10}{'pairs/s':>10}{'efficiency':>12}"
    )
    for chips in (1, *_sizes(report, SIZES)):
        found = estimate(report, chips)
        times = "".join(f"{1e3 * seconds:7.1f} ms" for seconds in found)
        rate = chips * report.batch_per_chip / found.total
        lines.append(f"{chips:7}{times}{rate:10.0f}{alone.total / found.total:12.1%}")
    return "\n".join(lines)


def _sizes(report: CompileReport, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of chips to estimate for: those of TPUs, whose links the roofline knows."""
    return () if report.topology.split(":")[0] in GPUS else sizes


def table(reports: list[dict[str, Any]]) -> str:
    """Markdown: one row for each compiled step."""
    names = [f"{chips} chips" for chips in (8, 64, 512)]
    lines = [
        f"| step | memory per chip | of it temporary | TFLOP | between chips | step at best | {' | '.join(names)} |",
        "| --- | ---: | ---: | ---: | ---: | ---: |" + " ---: |" * len(names),
    ]
    for row in reports:
        report = CompileReport(**row)
        report = report._replace(
            collectives=[program_cost.Collective(*one) for one in report.collectives],
            traffic=[program_cost.Traffic(*one) for one in report.traffic],
        )
        alone, moved = estimate(report, 1), sum(one.bytes for one in report.collectives)
        shares = [f"{alone.total / estimate(report, chips).total:.1%}" for chips in _sizes(report, (8, 64, 512))]
        shares += [""] * (3 - len(shares))
        what = f"`{report.config}`, {report.topology}, {report.batch_per_chip} pairs, fsdp {report.fsdp}"
        cells = [
            f"{report.memory['total'] / 2**30:.2f} of {report.capacity / 2**30:.0f} GiB",
            f"{report.memory['temporary'] / 2**30:.2f} GiB",
            f"{report.flops / 1e12:.1f}",
            f"{moved / 2**20:.0f} MiB",
            f"{1e3 * alone.total:.0f} ms",
            *shares,
        ]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save(report: CompileReport) -> None:
    """Put the report in place of an older one of the same step, and the table into the page."""
    rows = read_json(RESULTS) if RESULTS.exists() else []
    same = ("config", "topology", "fsdp", "batch_per_chip", "accumulate")
    new: Any = report._asdict()
    rows = [row for row in rows if any(row[name] != new[name] for name in same)] + [new]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(f"{before}{START}\n{table(rows)}\n{END}{rest.split(END)[1]}")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = command_line.make_parser("compile-report", __doc__, urls=("config",))
    parser.add_argument("config", metavar="CONFIG", help="name or file of a configuration, as for sheap train")
    parser.add_argument("--topology", default="v5p:4x8x8", help="such as v5e:16x16 or h200")
    parser.add_argument("--batch-per-chip", type=int, default=16, metavar="PAIRS", help="pairs of frames in a step")
    parser.add_argument("--fsdp", type=int, default=1, metavar="CHIPS", help="chips that share out the state")
    parser.add_argument("--save", action="store_true", help="keep the result and write the page's table anew")
    options = parser.parse_args(arguments)
    if options.save and not PAGE.exists():
        parser.error(f"--save writes into a checkout of the repository: {PAGE} is not there")
    prepare(options.topology)
    config = config_files.load_file(options.config)
    config = config_files.replace(config, ["devices", "fsdp"], options.fsdp)
    check_config(config)
    report = compile_step(config, options.topology, batch_per_chip=options.batch_per_chip)
    print(describe(report))
    if options.save:
        save(report)


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
