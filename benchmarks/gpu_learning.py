"""What `small` learns on a GPU in minutes, on generated people that all lie in the GPU's memory.

    python benchmarks/gpu_learning.py --seconds 200 --work /tmp/learning --output learning.json
    python benchmarks/gpu_learning.py --seconds 200 --work /tmp/learning --resume learning.tar    # goes on

Batches are large. The input pipeline is not used, and not measured. Prints pairs per second of both kinds of steps and
the error of held-out heads as benchmarks/overfit.py defines it. `WORK/run` is a run directory as `sheap train` makes
them: `sheap eval` scores it on embedded-v1. Beside `--output` its newest checkpoint is packed as `learning.tar`, to go
on with.
"""

import argparse
import dataclasses
import functools
import os
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from overfit import shape_ratio
from timing import environment, report, wait_for_turn
from tqdm import tqdm

from sheap_jax import assembly, config_files
from sheap_jax.config import Config, EmbeddedData
from sheap_jax.data.augment import float_batch
from sheap_jax.data.embedded.dataset import film_people
from sheap_jax.data.embedded.people import load_people, person_seed
from sheap_jax.data.frames import decode_image, drop_far_landmarks
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.morphable.embedded.head import embedded_shape
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start
from sheap_jax.training.checkpoint import Checkpoints
from sheap_jax.training.state import TrainState
from sheap_jax.training.step import make_step
from sheap_jax.types import Batch, Frame, RawBatch, RawFrame

MARGIN = 8  # pixels by which edges are repeated before a frame is shifted
WINDOW = 20  # steps between two looks at the clock
POINT = 500  # steps between two points of the curve
People = RawFrame  # of [p, f, ...]: f frames of each of p people
CompiledStep = Any  # compiled


class Learner(NamedTuple):
    """What stays the same while the state learns."""

    config: Config
    networks: Networks
    assets: Assets
    people: dict[str, People]  # by split


def film(config: EmbeddedData, path: Path, *, size: int) -> None:
    """Pictures and landmarks of everybody, at the size of the training, into one `.npz`."""
    people = config.train_identities + config.test_identities
    frames = config.clips_per_identity * config.frames_per_clip
    images = np.zeros((people, frames, size, size, 3), np.uint8)
    landmarks = np.zeros((people, frames, 68, 2), np.float32)
    weights = np.zeros((people, frames, 68), np.float32)
    filmed = film_people(config, load_people(config.people))
    for person, (_, footage) in enumerate(tqdm(filmed, total=people, unit="person")):
        for frame, record in enumerate(footage.records):
            stored = decode_image(record, images[person, frame])
            landmarks[person, frame] = record.landmarks * np.float32(size / stored)
            weights[person, frame] = record.weights
    whole = drop_far_landmarks(RawFrame(images, landmarks, weights))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(unfinished, allow_pickle=False, **whole._asdict())
    unfinished.replace(path)


def load_film(path: Path, config: EmbeddedData) -> dict[str, People]:
    with np.load(path) as data:
        everybody = People(*(data[name] for name in People._fields))
    cut = config.train_identities
    return {
        "train": jax.device_put(jax.tree.map(lambda values: values[:cut], everybody)),
        "test": jax.tree.map(lambda values: values[cut:], everybody),
    }


@functools.partial(jax.jit, static_argnames=("size", "color_jitter", "crop_jitter"))
def draw_batch(people: People, key: Key[Array, ""], *, size: int, color_jitter: float, crop_jitter: float) -> Batch:
    """Random pairs of frames of random people, mirrored, tinted and shifted as the input pipeline does it."""
    of_person, of_source, of_target, of_mirror, of_gain, of_crop = jax.random.split(key, 6)
    count, frames = people.landmarks.shape[:2]
    person = jax.random.randint(of_person, (size,), 0, count)
    source = jax.random.randint(of_source, (size,), 0, frames)
    target = (source + jax.random.randint(of_target, (size,), 1, frames)) % frames
    taken = [RawFrame(*(values[person, frame] for values in people)) for frame in (source, target)]
    gain = 1.0 + color_jitter * jax.random.uniform(of_gain, (size, 3), minval=-1.0)
    records = jnp.stack([person * frames + source, person * frames + target], axis=-1)
    raw: Any = RawBatch(*taken, jax.random.bernoulli(of_mirror, shape=(size,)), gain, records)
    batch = float_batch(raw)
    crops = crop_jitter * jax.random.uniform(of_crop, (2, size, 3), minval=-1.0)
    moved = [jax.vmap(shift_frame)(frame, crop) for frame, crop in zip(batch[:2], crops, strict=True)]
    return Batch(*moved, batch.record)


def shift_frame(frame: Frame, crop: Float[Array, "3"]) -> Frame:
    """Zoom by 1 + crop[0] about the centre, then shift by crop[1:] (right, down) image sizes; edges are repeated."""
    size = frame.image.shape[0]
    zoom = 1.0 + crop[0]
    offset = (1.0 - zoom) * size / 2 + crop[1:] * size
    padded = jnp.pad(frame.image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
    image = jax.image.scale_and_translate(
        padded,
        frame.image.shape,
        (0, 1),
        jnp.stack([zoom, zoom]),
        offset[::-1] - zoom * MARGIN,
        method="linear",
        antialias=False,
    )
    return frame._replace(image=image, landmarks=zoom * frame.landmarks + offset)


def test_errors(learner: Learner, state: TrainState) -> dict[str, float]:
    """Error of held-out heads beside the mean head's, each seen in its first frame."""
    config, people = learner.config, learner.people["test"]
    data = config.data.embedded
    assert data is not None
    images = jnp.asarray(people.image[:, 0], jnp.float32) / 255.0
    output: Any = _estimate(learner.networks.estimator, state.params["estimator"], images)
    seeds = [person_seed("test", number, data) for number in range(len(images))]
    true = np.stack([embedded_shape(seed) for seed in seeds])
    return shape_ratio(learner.assets.model, output.estimate.head.shape, true)


@functools.partial(jax.jit, static_argnums=0)
def _estimate(estimator: Any, params: Any, images: Float[Array, "b h w 3"]) -> Any:
    return estimator.apply({"params": params}, images)


def compile_steps(learner: Learner, state: TrainState, batch: Batch, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Futures of both steps."""
    config = learner.config
    optimizers, settings = start.build_optimizers(config), assembly.render_settings(config)

    def compiled(rendered: bool) -> CompiledStep:
        step: Any = make_step(learner.networks, optimizers, config.losses, settings, rendered=rendered)
        return step.lower(*jax.eval_shape(lambda *all: all, state, learner.assets, batch)).compile()

    return {name: pool.submit(compiled, name == "rendered") for name in ("landmarks", "rendered")}


def learn(
    learner: Learner, state: TrainState, *, seconds: float, tell: Callable[[dict[str, Any]], None]
) -> tuple[TrainState, dict[str, Any]]:
    """Train for so long once all is compiled, or to the last step; the state and what was measured.

    `tell` gets at every point of the curve what has been measured so far. Within a visit that says how long.
    """
    config = learner.config
    draw = functools.partial(
        draw_batch,
        learner.people["train"],
        size=config.batch_size,
        color_jitter=config.data.color_jitter,
        crop_jitter=config.data.crop_jitter,
    )
    key = jax.random.key(config.seed)
    rates: dict[str, list[float]] = {"landmarks": [], "rendered": []}
    curve: list[dict[str, float]] = []
    applied = True

    def measured() -> dict[str, Any]:
        speed = {f"{name}_pairs_per_s": float(np.median(found)) for name, found in rates.items() if found}
        return speed | {"steps": int(state.step), "applied": applied, "curve": curve}

    with ThreadPoolExecutor(2) as pool:
        steps = compile_steps(learner, state, draw(key), pool)
        for one in steps.values():
            one.result()
        test_errors(learner, state)  # compiles what it needs
        end = time.perf_counter() + wait_for_turn(seconds)
        while int(state.step) < config.steps and time.perf_counter() < end:
            first = int(state.step)
            name = "landmarks" if first < config.geometry_steps else "rendered"
            last = min(first + WINDOW, config.geometry_steps if name == "landmarks" else config.steps)
            step = steps[name].result()
            begin = time.perf_counter()
            for number in range(first, last):
                state, outcome = step(state, learner.assets, draw(jax.random.fold_in(key, number)))
            metrics, applied = jax.device_get(outcome.metrics), bool(outcome.applied)
            rates[name].append(config.batch_size * (last - first) / (time.perf_counter() - begin))
            if last == config.geometry_steps or last % POINT == 0:
                curve.append({"step": last, "loss": float(metrics["loss"])} | test_errors(learner, state))
                tell(measured())
        curve.append({"step": int(state.step)} | test_errors(learner, state))
    return state, measured()


def pack(run: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        tar.add(run, arcname="run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/small.py", help="networks, losses and people are its")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of it")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--geometry-steps", type=int, default=4_000)
    parser.add_argument("--steps", type=int, default=20_000, help="of both kinds; rates fall to their end there")
    parser.add_argument(
        "--seconds",
        type=float,
        default=200.0,
        help="of training, when all is compiled; a visit says by itself how many",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/learning"))
    parser.add_argument("--resume", type=Path, metavar="learning.tar", help="of an earlier call")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    changed = [f"--config.{one}" for one in options.set]
    config = config_files.parse_arguments([*changed, "--config", options.config], default="", description="")
    sizes = {"batch_size": options.batch, "steps": options.steps, "geometry_steps": options.geometry_steps}
    config = dataclasses.replace(config, name="learning", **sizes)
    data = config.data.embedded
    if data is None:
        parser.error(f"{options.config} trains on real frames: only generated people have a known shape")
    pictures = options.work / "people.npz"
    if not pictures.exists():
        film(data, pictures, size=config.image_size)
    if options.resume:
        with tarfile.open(options.resume) as tar:
            tar.extractall(options.work, filter="data")
    run = options.work / "run"
    run.mkdir(parents=True, exist_ok=True)
    model = load_morphable(config.morphable)
    assets, networks = assembly.build_assets(config, model), assembly.build_networks(config, model)
    checkpoints = Checkpoints(run, keep=1)
    state = start.initial_state(config, networks, assets)
    state = checkpoints.restore(state) or state
    learner = Learner(config, networks, assets, load_film(pictures, data))
    about = environment() | {"config": options.config, "batch": options.batch}
    state, found = learn(
        learner, state, seconds=options.seconds, tell=lambda found: report(about | found, options.output)
    )
    config_files.save_json(config, run / "config.json")
    checkpoints.save(state)
    checkpoints.close()
    report(about | found, options.output)
    if options.output:
        pack(run, options.output.with_name("learning.tar"))


if __name__ == "__main__":
    main()
