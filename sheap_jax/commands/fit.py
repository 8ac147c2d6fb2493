"""Make a model know the person of your own video: prepare, fine-tune, predict, avatar, in one command.

    sheap fit me.mp4 --output me --face-landmarker face_landmarker.task

The folder gets the prepared frames (frames/), the run (run/), head parameters and the mesh over the video
(me/params.npz, me/overlay.mp4), the avatar (avatar.npz), and side_by_side.mp4: the video, and the avatar that moves
like it. The same command goes on after a stop. Some minutes on two CPU cores; docs/own_video.md shows what to expect.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from sheap_jax import config_files
from sheap_jax.command_line import make_parser
from sheap_jax.commands import train
from sheap_jax.commands.predict import blocked_by, count
from sheap_jax.config import Config, Data, Log, Weights
from sheap_jax.config_checks import check_config
from sheap_jax.data.frames import decode_frame
from sheap_jax.data.manifest import MANIFEST, read_manifest
from sheap_jax.data.prepare.__main__ import ERRORS as PREPARE_ERRORS
from sheap_jax.data.prepare.__main__ import main as prepare
from sheap_jax.data.prepare.clips import VIDEO_SUFFIXES
from sheap_jax.data.records import Split
from sheap_jax.files.places import check_writable
from sheap_jax.inference import smoothing
from sheap_jax.inference.avatar import check_surfels, rig_surfels, save_avatar
from sheap_jax.inference.crops import open_finder
from sheap_jax.inference.driving import driving_of, read_predictions
from sheap_jax.inference.inputs import find_inputs
from sheap_jax.inference.outputs import write_outputs
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.reenact import reenact, write_pictures
from sheap_jax.training import pretrained

ERRORS = (*train.ERRORS, *PREPARE_ERRORS)

SIZE = 256  # pixels of a picture in side_by_side.mp4
GEOMETRY_STEPS, RENDERED_STEPS = 600, 300
LEAST_CROP = 128  # pixels of the prepared crops
CANDIDATES = 64  # frames among which the avatar's is chosen
START = "a folder of weights that `sheap export RUN OUT/` wrote, or pretrained: the model that comes along"


class Places(NamedTuple):
    """What lies where in the output folder."""

    frames: Path
    run: Path
    avatar: Path
    video: Path


def fit(options: argparse.Namespace) -> None:
    """Run the command."""
    output: Path = options.output
    places = Places(output / "frames", output / "run", output / "avatar.npz", output / "side_by_side.mp4")
    check_videos(options.videos, output, places)
    config = fitted_config(options.checkpoint, places, geometry_steps=options.steps, rendered_steps=options.rendered)
    check_config(config)
    check_surfels(Predictor.from_checkpoint(config.weights.start))
    check_writable(output)
    prepare_frames(options, places, image_size=max(LEAST_CROP, config.image_size))
    fine_tune(config, places)

    predictor = Predictor.from_checkpoint(places.run)
    rigged = rig_surfels(predictor, frontal_face(predictor, places.frames))
    save_avatar(rigged, places.avatar)
    print(f"{places.avatar}: {rigged.parent_face.shape[0]} surfels")
    with open_finder(options, framing=predictor.framing) as finder:
        predictions = read_predictions(predictor, options.videos, finder, track=None)
    predictions = [smoothing.one_identity(prediction) for prediction in predictions]
    for prediction in predictions:
        print(write_outputs(output, predictor.model, prediction, ["params", "overlay"]))
    driving = driving_of(predictions)
    moved = reenact(rigged, predictor.model, driving, size=SIZE)
    pictures = (np.concatenate(pair, axis=1) for pair in zip(driving.pictures(SIZE), moved, strict=True))
    bar = tqdm(pictures, total=len(driving.head.shape), unit="frame", desc="side by side")
    write_pictures(places.video, bar, times=driving.times)
    print(f"{places.video}: the video, and the avatar with its motion")


def check_videos(videos: list[Path], output: Path, places: Places) -> None:
    """ValueError for what is no video, for results that would replace one, and for an output of other videos."""
    for video in videos:
        if not video.is_file() or video.suffix.lower() not in VIDEO_SUFFIXES:
            raise ValueError(f"{video} is no video file")
        if video.resolve() == places.video.resolve():
            raise ValueError(f"results would replace {video} itself: choose another --output")
    for clip in find_inputs([str(video) for video in videos]).clips:
        reason = blocked_by(output, clip)
        if reason is not None:
            raise ValueError(f"{clip.path}: {reason}")
    if not (places.frames / MANIFEST).exists():
        return
    provenance = next(iter(read_manifest(places.frames)["splits"].values()))["provenance"]
    before = {str(Path(name).resolve()) for name in provenance["inputs"]}
    if before != {str(video.resolve()) for video in videos}:
        raise ValueError(f"{output} is of other videos, {', '.join(sorted(before))}: choose another --output")


def fitted_config(checkpoint: str, places: Places, *, geometry_steps: int, rendered_steps: int) -> Config:
    """The configuration of a fine-tuning: networks and losses of the model, data and steps of the video.

    Raises ValueError or ConfigError if there are no such weights.
    """
    start = pretrained.find(checkpoint)
    if not pretrained.is_pretrained(start):
        raise ValueError(f"{start} holds no weights to start from: make them with `sheap export RUN OUT/`")
    trained = config_files.load_json(start / "config.json")
    return Config(
        name="fit",
        steps=geometry_steps + rendered_steps,
        geometry_steps=geometry_steps,
        batch_size=8,
        image_size=trained.image_size,
        morphable=trained.morphable,
        light=trained.light,
        data=Data(directory=str(places.frames), embedded=None, flip=False, crop_jitter=0.03),
        weights=Weights(start=str(start), dinov2=trained.weights.dinov2),
        primitive=trained.primitive,
        estimator=trained.estimator,
        regressor=trained.regressor,
        prototypes=dataclasses.replace(trained.prototypes, densify_every=0),
        losses=dataclasses.replace(trained.losses, shape=0.05, expression=0.01, perceptual=0.0),
        optimizer=dataclasses.replace(
            trained.optimizer, learning_rate=5e-4, warmup_steps=20, rendered_share=0.2, accumulate=1
        ),
        log=Log(directory=str(places.run), metrics_every=20, pictures_every=100, checkpoint_every=100),
    )


def prepare_frames(options: argparse.Namespace, places: Places, *, image_size: int) -> None:
    """The shards of the videos, made or gone on with. ValueError names a video that gave nothing."""
    if not (places.frames / MANIFEST).exists():
        source = ["--face-landmarker", options.face_landmarker]
        if options.landmarks is not None:
            source = ["--landmarks", options.landmarks]
        prepare([*map(str, [*options.videos, *source, "--output", places.frames, "--image-size", image_size])])
    written = {str(name) for name in Split(places.frames, "train").index.clip_names}
    if len(written) < len(options.videos):
        raise ValueError(
            f"of {len(options.videos)} videos only {', '.join(sorted(written))} can be used, see "
            f"{places.frames / 'failed.json'}: leave the others out and choose another --output"
        )


def fine_tune(config: Config, places: Places) -> None:
    """Train, or go on. ConfigError says what to do where a run with other options is there."""
    try:
        train.train(config)
    except config_files.ConfigError as error:
        if not (places.run / "config.json").exists():
            raise
        raise config_files.ConfigError(
            f"{places.run} was begun with other options: choose another --output, or remove {places.run} ({error})"
        ) from error


def frontal_face(predictor: Predictor, shards: Path) -> Float[Array, "h w 3"]:
    """The face that looks most straight at the camera, of frames spread over all: what an avatar is made of."""
    split = Split(shards, "train")
    chosen = np.unique(np.linspace(0, len(split) - 1, min(CANDIDATES, len(split))).round().astype(int))
    size = predictor.config.image_size
    images = np.stack([decode_frame(split[int(record)], image_size=size).image for record in chosen])
    turned = np.linalg.norm(predictor(images).rotations[:, 0, :2], axis=-1)
    return jnp.asarray(images[int(np.argmin(turned))])


def main(arguments: list[str]) -> None:
    parser = make_parser("fit", __doc__, urls=("checkpoint",))
    parser.add_argument(
        "videos", nargs="+", type=Path, metavar="VIDEO", help="of one person, who talks and looks round"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="gets all that is made")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--face-landmarker", type=Path, metavar="MODEL.task", help="MediaPipe's model; needs mediapipe")
    source.add_argument("--landmarks", type=Path, metavar="FILE.npz", help="68 landmarks per frame, made before")
    parser.add_argument("--checkpoint", default=pretrained.NAME, metavar="DIR", help=START)
    parser.add_argument("--steps", type=count, default=GEOMETRY_STEPS, metavar="N", help="on landmarks")
    parser.add_argument("--rendered", type=whole, default=RENDERED_STEPS, metavar="N", help="on pictures after these")
    options = parser.parse_args(arguments)
    options.boxes, options.cropped = None, False  # of `open_finder`: a fit needs landmarks
    fit(options)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 on")
    return int(text)
