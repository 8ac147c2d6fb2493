"""The clips benchmark: a trained network on frames of real clips that were held out of its training.

Nobody knows the true heads of these people. What is known is where a detector saw the landmarks, and the pictures:

    landmarks       of each held-out frame, predicted from that frame alone, against the detected ones. Beside the mean
                    head held still where the landmarks lie on average, the predicted head without expression, and the
                    landmarks of the source frame
    re-animation    source: the clip's first training frame; target: each held-out frame. Beside the source frame as it
                    is, and the target's mean colour

A landmark error is a mean distance in percent of the distance between the outer eye corners, both as detected.
"""

import hashlib
import json
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from sheap_jax.data.frames import decode_frame, stack_frames
from sheap_jax.data.records import ShardError, Split
from sheap_jax.evaluation.landmark_errors import INNER, UNIT, counts, part_errors
from sheap_jax.evaluation.predictions import (
    MEAN_HEAD,
    NO_EXPRESSION,
    NetworkUnderTest,
    expressionless,
    pose_heads,
    project_landmarks,
)
from sheap_jax.evaluation.reanimation_scores import picture_scores
from sheap_jax.evaluation.report import BenchmarkReport, Measured, PerImage
from sheap_jax.evaluation.samples import sample_grid, spread
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import Frame, HeadParams

SOURCE_FRAME = "landmarks of the source frame"
SAMPLES = 8  # pairs in the picture
HOW_TO_HOLD_OUT = "prepare the clips with --test-share 0.1 --hold-out frames (docs/data.md)"


class HeldOut(NamedTuple):
    """The held-out frames of a set of clips, in record order, and one training frame of each clip."""

    frames: Frame  # NumPy arrays [n, ...]
    names: list[str]  # identity/clip/frame of each
    people: list[str]
    sources: Frame  # [c, ...]
    source_names: list[str]
    source_of: Int[np.ndarray, "n"]  # row of `sources` for each of `frames`
    missing: list[str]  # held-out frames that do not count, and why
    version: str  # changes with every byte of the held-out frames and with the choice of sources


def evaluate_clips(
    predictor: NetworkUnderTest, directory: str | os.PathLike[str], *, image_size: int
) -> BenchmarkReport:
    """Score a network on the split `test` of shards whose clips also have training frames.

    Args:
        predictor: the network.
        directory: of shards that `sheap_jax.data.prepare` wrote with `--hold-out frames`.
        image_size: pixels of the square images that the network takes.

    Raises:
        ShardError: the shards are missing or damaged, or hold nothing out.
        ValueError: a held-out frame's clip has no training frame, or no frame counts.
    """
    held = load_held_out(directory, image_size=image_size)
    count, clips = len(held.names), len(held.source_names)
    target, source = np.asarray(held.frames.image), np.asarray(held.sources.image)[held.source_of]
    # One call for both: the picture needs the shape that each source frame shows.
    images = np.concatenate([target, np.asarray(held.sources.image)])
    params = HeadParams._make(np.asarray(values) for values in predictor(jnp.asarray(images)))
    rendered = np.asarray(predictor.reanimate(jnp.asarray(source), jnp.asarray(target)))
    own = jax.tree.map(lambda values: values[:count], params)
    landmarks = landmark_scores(predictor.model, own, held, image_size=image_size)
    points, detected = np.asarray(held.frames.landmarks), np.asarray(held.frames.landmark_weight) > 0
    pictures = picture_scores(source, target, rendered, [one[seen] for one, seen in zip(points, detected, strict=True)])
    pairs, shown = np.stack([count + held.source_of, np.arange(count)], axis=-1), spread(count, SAMPLES)
    return BenchmarkReport(
        benchmark="clips",
        version=held.version,
        settings={"sources": held.source_names, "image_size": image_size},
        counts={"held-out frames": count, "clips": clips},
        comparisons=[one.comparison() for one in landmarks + pictures],
        per_image=[
            PerImage(held.names, held.people, {one.quantity: one.ours for one in landmarks}),
            PerImage(
                [f"{held.source_names[k]} -> {name}" for k, name in zip(held.source_of, held.names, strict=True)],
                held.people,
                {one.quantity: one.ours for one in pictures},
            ),
        ],
        missing=held.missing,
        samples=sample_grid(predictor.model, params, pairs[shown], images, rendered[shown]),
    )


def load_held_out(directory: str | os.PathLike[str], *, image_size: int) -> HeldOut:
    """Held-out frames and their sources at `image_size` pixels; errors as in `evaluate_clips`."""
    test, train = _split(directory, "test"), _split(directory, "train")
    first = _first_frames(train)
    frames, records, missing = [], [], []
    for record in range(len(test)):
        frame = decode_frame(test[record], image_size=image_size)
        if not counts(frame):
            missing.append(f"{test.key(record)}: eyes, nose or mouth were not detected")
            continue
        frames.append(frame)
        records.append(record)
    if not frames:
        raise ValueError(f"none of the {len(test)} held-out frames in {directory} has eyes, nose and mouth detected")
    clips = [_clip(test, record) for record in records]
    for clip, record in zip(clips, records, strict=True):
        if clip not in first:
            raise ValueError(
                f"{test.key(record)} in {directory} is held out, but no frame of its clip with eyes, nose and mouth "
                f"detected is in the training split: {HOW_TO_HOLD_OUT}"
            )
    used = list(dict.fromkeys(clips))
    sources = [first[clip] for clip in used]
    names = [train.key(record) for record in sources]
    return HeldOut(
        stack_frames(frames),
        [test.key(record) for record in records],
        [clip[0] for clip in clips],
        stack_frames([decode_frame(train[record], image_size=image_size) for record in sources]),
        names,
        np.array([used.index(clip) for clip in clips]),
        missing,
        _version(test, names),
    )


def landmark_scores(model: MorphableModel, params: HeadParams, held: HeldOut, *, image_size: int) -> list[Measured]:
    """Landmark error of each frame, by part, and that of the mouth's opening, beside baselines that see less."""
    truth = np.asarray(held.frames.landmarks)
    heads = (params, expressionless(model, params), mean_params(model, len(truth)))
    ours, stiff, still = (project_landmarks(pose_heads(model, head), image_size=image_size) for head in heads)
    baselines = {
        MEAN_HEAD: still + np.mean((truth - still)[:, INNER], axis=(0, 1)),
        NO_EXPRESSION: stiff,
        SOURCE_FRAME: np.asarray(held.sources.landmarks)[held.source_of],
    }
    errors = part_errors(ours, truth)
    return [
        Measured(f"landmarks, {part}", UNIT, False, values, name, part_errors(points, truth)[part])
        for part, values in errors.items()
        for name, points in baselines.items()
    ]


def _split(directory: str | os.PathLike[str], name: str) -> Split:
    try:
        return Split(directory, name)
    except ShardError as error:
        raise ShardError(f"{error}. This benchmark needs held-out frames of clips: {HOW_TO_HOLD_OUT}") from error


def _clip(split: Split, record: int) -> tuple[str, str]:
    return str(split.index.identity_names[split.index.identity[record]]), str(
        split.index.clip_names[split.index.clip[record]]
    )


def _first_frames(train: Split) -> dict[tuple[str, str], int]:
    """The first record of each clip that can be measured, so that it can be a baseline too."""
    first: dict[tuple[str, str], int] = {}
    for record in range(len(train)):
        if _clip(train, record) not in first and np.all(train[record].weights[INNER] > 0):
            first[_clip(train, record)] = record
    return first


def _version(test: Split, sources: list[str]) -> str:
    content = [[shard["sha256"] for shard in test.manifest["shards"]], sources]
    return f"clips-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"
