"""Train a head geometry predictor from videos.

    sheap train                                            # generated heads, minutes on two CPU cores
    sheap train --config small --config.seed=1 --config.name=small-1
    sheap train --config base --config.data.directory=SHARDS
    sheap train --config ablations/mlp:small               # what the first file changes, of the second

The same command goes on from the last checkpoint after a stop of any kind. A start that is refused changes nothing.
"""

import contextlib
import functools
import logging
from pathlib import Path

import jax
from tqdm import tqdm

from sheap_jax import assembly, config_files
from sheap_jax.commands import start_options
from sheap_jax.commands.validation import Validation, show
from sheap_jax.config import Config
from sheap_jax.config_checks import check_config
from sheap_jax.data.batch_maker import Process
from sheap_jax.data.pairs import pair_batches
from sheap_jax.data.records import ShardError
from sheap_jax.files.pictures import save_picture
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import run_directory, sharding, start
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints, finished_steps
from sheap_jax.training.densify import make_densify
from sheap_jax.training.metrics import MetricWriter
from sheap_jax.training.network import CurrentNetwork
from sheap_jax.training.pictures import make_pictures
from sheap_jax.training.profile import Profile, StepRange, check_range
from sheap_jax.training.raster_capacity import GrowingCapacity, first_capacities
from sheap_jax.training.rows import Counters, log_line, metrics_row
from sheap_jax.training.speed import SpeedMeter
from sheap_jax.training.stages import Stages
from sheap_jax.training.stall import StallWatch
from sheap_jax.training.step import make_step
from sheap_jax.training.watch import NotFiniteError, StepWatch, StopSignal

log = logging.getLogger("train")

ERRORS = (config_files.ConfigError, CheckpointError, NotFiniteError, ShardError, OSError)  # one line says all


def train(config: Config, *, fresh: bool = False, profile: StepRange | None = None) -> Path:
    """Run (or go on with) the training that `config` describes; returns the run directory.

    `fresh` begins anew where all checkpoints of the run were damaged; `profile` are steps to trace.
    """
    check_config(config)
    watched = contextlib.closing(StallWatch(config.faults.stall_seconds))
    with watched as stall, run_directory.claim(config) as run:  # until run.begin nothing of an older run is touched
        if profile is not None:
            check_range(profile, run.path, done=max(finished_steps(run.path), default=0), steps=config.steps)
        train_in(run, config, stall, fresh=fresh, profile=profile)
    return run.path


def train_in(
    run: run_directory.RunDirectory, config: Config, stall: StallWatch, *, fresh: bool, profile: StepRange | None
) -> None:
    """The training itself. Up to `run.begin` it can be refused: for cheap reasons first, then for data or state."""
    # The method: constant arrays, and networks without parameters.
    model = load_morphable(config.morphable)
    networks = assembly.build_networks(config, model)
    assets = assembly.build_assets(config, model)
    # One program over all devices of all processes: the batch is split, the state whole on each or shared out.
    accumulate = config.optimizer.accumulate
    mesh = sharding.make_mesh(config.batch_size, fsdp=config.devices.fsdp, accumulate=accumulate)
    settings = assembly.render_settings(config)
    start.check_fit(config, networks, assets)
    split = assembly.open_data(config)
    validation = Validation(config, split.directory)

    # What learns.
    state = sharding.place_state(start.initial_state(config, networks, assets), mesh)
    assets = sharding.replicate(assets, mesh)
    with stall.stage("the last checkpoint to be read"):
        checkpoints = Checkpoints(run.path, keep=config.log.keep_checkpoints)
        state = checkpoints.restore(state, fresh=fresh) or start.start_from_weights(config, state)
    first = int(state.step)
    run.begin(first)
    if first == config.steps:
        log.info("%s has all of its %d steps", run.path, first)
        if not checkpoints.steps():  # config.steps=0: networks that have not learned can be used as well
            checkpoints.save(state)
        checkpoints.close()
        return

    shardings = None if mesh is None else sharding.state_shardings(state, mesh)
    optimizers = start.build_optimizers(config)
    make = functools.partial(make_step, networks, optimizers, config.losses, accumulate=accumulate, shardings=shardings)
    prototypes, faces = state.prototypes.active.shape[0], assets.model.faces.shape[0]
    lists = first_capacities(settings, surfels=prototypes, faces=faces)
    capacity = GrowingCapacity(
        run.path,
        settings,
        lists,
        most_growths=config.faults.list_growths,
        resume_step=first,
        writes=sharding.leads(),
    )
    geometry_step, full_step = (make(capacity.settings, rendered=rendered) for rendered in (False, True))
    densify = make_densify(share=config.prototypes.densify_share, shardings=shardings)

    writer = MetricWriter(run.path, resume_step=first, writes=sharding.leads())
    batches = pair_batches(
        split.directory,
        config.data,
        split="train",
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        step=first,
        process=Process(jax.process_index(), jax.process_count()),
    )
    watch = StepWatch(run.path, split.key, config.faults, resume_step=first, writes=sharding.leads())
    schedules, counters = start.build_schedules(config), Counters()
    trace, stop = Profile(profile, run.path, wait=watch.settle), StopSignal()
    speed = SpeedMeter(config.batch_size, step=first)
    stages = Stages(stall, speed, compile_seconds=config.faults.compile_seconds)
    bar = {"unit": "step", "desc": config.name, "disable": not sharding.leads()}
    progress = tqdm(range(first, config.steps), initial=first, total=config.steps, **bar)
    parts = {"progress": progress, "trace": trace, "input": batches, "checkpoints": checkpoints, "metrics": writer}
    with stages.closing(**parts, signals=stop):
        for done in progress:
            if done == config.geometry_steps:
                watch.start_phase()
            step = geometry_step if done < config.geometry_steps else full_step
            with trace.step(done + 1):
                with stages.stage("the next batch of the input pipeline", "input"):
                    batch = sharding.shard_batch(next(batches), mesh)
                with stages.program(step, "a training step on the devices") as compiles:
                    state, report = step(state, assets, batch, watch.loss_limit)
                    watch.follow(report, done + 1)  # looks at the step before while this one runs
                    if compiles:
                        watch.settle()
            done += 1

            densifies = config.geometry_steps < done <= config.prototypes.densify_until
            if densifies and is_due(done, config.prototypes.densify_every):
                with stages.program(densify, "densification"):
                    state = densify(state)
            with stages.stage("the other processes"):
                stopped = stop.stops(done)
            finished = done == config.steps
            scores = None
            if validation.is_due(done) and (finished or not stopped):
                with stages.program((validation, capacity.settings), "the scores of held-out pairs"):
                    watch.settle()
                    scores = validation.score(CurrentNetwork(networks, assets, state, capacity.settings, mesh=mesh))
                    show(scores, done, run.path, writer)
            if finished or stopped or scores or is_due(done, config.log.metrics_every):
                with stages.stage("the metrics of a step", "devices"):
                    watch.settle()
                    row = metrics_row(report, state, schedules) | (scores.values if scores else {})
                with stages.stage("metrics to be written"):
                    row |= counters.since_last(skipped=watch.skipped, replaced=batches.replaced) | speed.read(done)
                    writer.write(done, row)
                    progress.set_postfix(log_line(row))
                if not stopped and capacity.grow(done, watch.take_overflow()):
                    full_step = make(capacity.settings, rendered=True)
            # Scores count anew when rendering begins: before, pictures have taught nothing.
            since = config.geometry_steps if done > config.geometry_steps else 0
            improves = scores is not None and checkpoints.improves(scores.score, since=since)
            if finished or stopped or improves or is_due(done, config.log.checkpoint_every):
                with stages.stage("a checkpoint to be written"):
                    watch.settle()
                    writer.flush()
                    checkpoints.save(state, best_score=scores.score if scores and improves else None)
            if finished or (is_due(done, config.log.pictures_every) and not stopped):
                with stages.program((make_pictures, capacity.settings), "pictures"):
                    picture = make_pictures(networks, state, assets, batch, capacity.settings, mesh=mesh)
                    if sharding.leads():
                        save_picture(picture, run.path / "pictures" / f"{done:07d}.png")
                    writer.write_image(done, "source-target-render-overlay-normals", picture)
            if stopped and not finished:
                log.warning("stopped by a signal after step %d; the same command goes on from there", done)
                raise SystemExit(stop.exit_code)


def is_due(step: int, every: int) -> bool:
    """Whether something done every so many steps is due; `every` 0 means never."""
    return every > 0 and step % every == 0


def main(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax prints tracebacks of what it raises
    options = start_options.read_options(arguments)
    others = [start_options.options_parser()]
    config = config_files.parse_arguments(arguments, default="quickstart", description=__doc__ or "", others=others)
    devices = config.devices
    sharding.start_processes(distributed=devices.distributed, heartbeat_seconds=devices.heartbeat_seconds)
    with sharding.failing_together(ERRORS):
        run = train(config, fresh=options.fresh, profile=options.profile)
    if config.data.embedded is not None and jax.process_count() == 1:
        from sheap_jax.commands.eval import evaluate

        # On this run's own test people; `sheap eval` alone takes those that are the same for everybody.
        evaluate(run, data={"embedded": assembly.ensure_data(config)})
