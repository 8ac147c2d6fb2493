"""Train a head geometry predictor from videos.

    python train.py                                        # embedded heads, minutes on two CPU cores
    python train.py --config configs/small.py --config.seed=1
    python train.py --config configs/base.py --config.data.directory=SHARDS

The same command goes on from the last checkpoint after a stop of any kind.
"""

import logging
import sys
from pathlib import Path

import jax
from tqdm import tqdm

from sheap_jax import config_files
from sheap_jax.config import Config
from sheap_jax.data.pairs import pair_batches
from sheap_jax.data.records import ShardError, Split
from sheap_jax.morphable.named import load_morphable
from sheap_jax.training import setup
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints
from sheap_jax.training.densify import make_densify
from sheap_jax.training.metrics import MetricWriter
from sheap_jax.training.pictures import make_pictures
from sheap_jax.training.step import make_step
from sheap_jax.training.watch import NotFiniteError, StopSignal, check_batch, check_report

log = logging.getLogger("train")


def train(config: Config) -> Path:
    """Run (or go on with) the training that `config` describes; returns the run directory."""
    run = setup.start_run(config)
    split = Split(setup.ensure_data(config), "train")

    # The method: constant arrays, networks without parameters, and the state that learns.
    model = load_morphable(config.morphable)
    assets = setup.build_assets(config, model)
    networks = setup.build_networks(config, model)
    state = setup.initial_state(config, networks, assets)

    # One program over all devices: the batch is shared out, everything else is replicated.
    mesh = setup.device_mesh(config.batch_size)
    state, assets = setup.replicate((state, assets), mesh)
    checkpoints = Checkpoints(run, keep=config.log.keep_checkpoints)
    state = checkpoints.restore(state) or setup.start_from_weights(config, state)
    first = int(state.step)

    optimizers, settings = setup.build_optimizers(config), setup.render_settings(config, mesh)
    geometry_step = make_step(networks, optimizers, config.losses, settings, rendered=False)
    full_step = make_step(networks, optimizers, config.losses, settings, rendered=True)
    densify = make_densify(share=config.prototypes.densify_share)

    writer = MetricWriter(run, resume_step=first)
    batches = pair_batches(
        split.directory,
        split="train",
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        step=first,
        workers=config.data.workers,
        across_clips=config.data.across_clips,
        allow_self_pairs=config.data.allow_self_pairs,
        flip=config.data.flip,
        color_jitter=config.data.color_jitter,
        crop_jitter=config.data.crop_jitter,
        max_bad_share=config.data.max_bad_share,
    )
    stop, before = StopSignal(), None
    progress = tqdm(range(first, config.steps), initial=first, total=config.steps, unit="step", desc=config.name)
    try:
        for done in progress:
            batch = next(batches)
            check_batch(batch, split.key)
            step = geometry_step if done < config.geometry_steps else full_step
            state, report = step(state, assets, setup.shard(batch, mesh))
            done += 1

            # Look at the step before while this one runs: the devices never wait for the host.
            if before is not None:
                check_report(*before, split.key)
            before = (report, done, batch.record)

            densifies = config.geometry_steps < done <= config.prototypes.densify_until
            if densifies and setup.is_due(done, config.prototypes.densify_every):
                state = densify(state)
            last = done == config.steps or stop.received
            if last or setup.is_due(done, config.log.metrics_every):
                check_report(*before, split.key)
                values = {name: float(value) for name, value in report.metrics.items()}
                writer.write(done, values)
                rate = progress.format_dict["rate"] or 0.0
                progress.set_postfix(loss=f"{values['loss']:.4f}", images_s=f"{2 * config.batch_size * rate:.0f}")
            if last or setup.is_due(done, config.log.pictures_every):
                picture = make_pictures(networks, state, assets, setup.shard(batch, None), settings)
                setup.save_picture(run / "pictures" / f"{done:07d}.png", picture)
                writer.write_image(done, "source-target-render-overlay-normals", picture)
            if last or setup.is_due(done, config.log.checkpoint_every):
                check_report(*before, split.key)
                checkpoints.save(state)
            if last and done < config.steps:
                log.warning("stopped by a signal after step %d; the same command goes on from there", done)
                raise SystemExit(130)
    finally:
        progress.close()
        batches.close()
        checkpoints.close()
        writer.close()
    return run


def main(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    jax.config.update("jax_compilation_cache_dir", str(Path(".cache/xla").absolute()))  # a resume compiles nothing
    config = config_files.parse_arguments(arguments, default="configs/quickstart.py", description=__doc__ or "")
    run = train(config)
    if config.data.embedded is not None:
        from eval import evaluate

        # On this run's own test people; eval.py alone takes those that are the same for everybody.
        evaluate(run, data={"embedded": setup.ensure_data(config)})


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (config_files.ConfigError, CheckpointError, NotFiniteError, ShardError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
