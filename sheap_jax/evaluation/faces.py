"""The faces benchmark: landmarks and head poses on real faces that a network has never seen.

All frames of prepared shards count, whatever their split. Nobody knows the true heads; what is known is where a
detector saw the landmarks. Each frame is predicted from that frame alone:

    landmarks       of eyes, nose and mouth. Beside the mean head held still where the landmarks lie on average, and the
                    predicted head without expression
    head pose       of the predicted head, against the pose in which the mean head's landmarks lie nearest to the
                    detected ones. Beside a head that looks straight ahead

A landmark error is a mean distance in percent of the distance between the outer eye corners, both as detected.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.data.frames import decode_frame, stack_frames
from sheap_jax.data.manifest import read_manifest
from sheap_jax.data.records import Split
from sheap_jax.evaluation.head_pose import ANGLES, angles, rotations_of_landmarks, rotations_of_meshes
from sheap_jax.evaluation.landmark_errors import INNER, UNIT, counts, part_errors
from sheap_jax.evaluation.predictions import (
    MEAN_HEAD,
    NO_EXPRESSION,
    HeadGeometry,
    NetworkUnderTest,
    expressionless,
    neutral,
    pose_heads,
    project_landmarks,
)
from sheap_jax.evaluation.report import BenchmarkReport, Measured, PerImage
from sheap_jax.evaluation.samples import spread
from sheap_jax.files.pictures import grid, overlay
from sheap_jax.geometry import official_camera
from sheap_jax.method.rendering import render_mesh
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import Frame, HeadParams

STRAIGHT = "looking straight ahead"
BATCH = 64  # frames predicted at a time
MOST_PEOPLE = 12  # that get a row of their own
SAMPLES = 12  # frames in the picture


class SeenFaces(NamedTuple):
    """All frames of a set of shards that can be measured."""

    frames: Frame  # NumPy arrays [n, ...]
    names: list[str]  # identity/clip/frame of each
    people: list[str]
    missing: list[str]  # frames that do not count, and why
    version: str  # changes with every byte of the frames


def evaluate_faces(
    predictor: NetworkUnderTest,
    directory: str | os.PathLike[str],
    *,
    image_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Score a network on all frames of shards that `sheap prepare` wrote.

    Args:
        predictor: the network.
        directory: of the shards.
        image_size: pixels of the square images that the network takes.
        progress: wraps the batches, to show how far it is.

    Raises:
        ShardError: the shards are missing or damaged.
        ValueError: no frame counts.
    """
    faces = load_faces(directory, image_size=image_size)
    images, detected = np.asarray(faces.frames.image), np.asarray(faces.frames.landmarks)
    batches = [predictor(jnp.asarray(images[first : first + BATCH])) for first in progress(_starts(len(images)))]
    params: HeadParams = jax.tree.map(lambda *values: np.concatenate(values), *batches)
    heads = pose_heads(predictor.model, params)
    landmarks = landmark_scores(predictor.model, params, heads, detected, image_size=image_size)
    pose = pose_scores(predictor.model, params, heads, detected, image_size=image_size)
    names = list(dict.fromkeys(faces.people))
    rows = [one.comparison() for one in (*landmarks, *pose)]
    if 1 < len(names) <= MOST_PEOPLE:
        who = np.array(faces.people)
        rows += [_of_person(landmarks[0], name, who == name).comparison() for name in names]  # all parts together
    return BenchmarkReport(
        benchmark="faces",
        version=faces.version,
        settings={"image_size": image_size},
        counts={"frames": len(faces.names), "people": len(names)},
        comparisons=rows,
        per_image=[PerImage(faces.names, faces.people, {one.quantity: one.ours for one in (*landmarks, *pose)})],
        missing=faces.missing,
        main_rows=[(row.quantity, row.baseline) for row in rows if row.baseline != NO_EXPRESSION],
        samples=_samples(predictor.model, heads, images),
    )


def _starts(count: int) -> range:
    return range(0, count, BATCH)


def _of_person(measured: Measured, name: str, chosen: np.ndarray) -> Measured:
    return measured._replace(
        quantity=f"{measured.quantity}, {name}",
        ours=measured.ours[chosen],
        baseline_values=measured.baseline_values[chosen],
    )


def load_faces(directory: str | os.PathLike[str], *, image_size: int) -> SeenFaces:
    """All frames with eyes, nose and mouth detected; errors as in `evaluate_faces`."""
    frames, names, people, missing, digests = [], [], [], [], []
    for name in sorted(read_manifest(Path(directory))["splits"]):
        split = Split(directory, name)
        digests.append([shard["sha256"] for shard in split.manifest["shards"]])
        for record in range(len(split)):
            frame = decode_frame(split[record], image_size=image_size)
            if not counts(frame):
                missing.append(f"{split.key(record)}: eyes, nose or mouth were not detected")
                continue
            frames.append(frame)
            names.append(split.key(record))
            people.append(str(split.index.identity_names[split.index.identity[record]]))
    if not frames:
        raise ValueError(f"no frame in {directory} has eyes, nose and mouth detected")
    version = f"faces-{hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:8]}"
    return SeenFaces(stack_frames(frames), names, people, missing, version)


def landmark_scores(
    model: MorphableModel,
    params: HeadParams,
    heads: HeadGeometry,
    detected: Float[np.ndarray, "n 68 2"],
    *,
    image_size: int,
) -> list[Measured]:
    """Landmark error of each frame, by part, beside that of the mean head and of the head without expression."""
    ours = part_errors(project_landmarks(heads, image_size=image_size), detected)
    still = project_landmarks(pose_heads(model, mean_params(model, 1)), image_size=image_size)
    still = still + np.mean((detected - still)[:, INNER], axis=(0, 1))
    stiff = project_landmarks(pose_heads(model, expressionless(model, params)), image_size=image_size)
    baselines = {
        MEAN_HEAD: part_errors(np.broadcast_to(still, detected.shape), detected),
        NO_EXPRESSION: part_errors(stiff, detected),
    }
    return [
        Measured(f"landmarks, {part}", UNIT, False, values, name, errors[part])
        for name, errors in baselines.items()
        for part, values in ours.items()
    ]


def pose_scores(
    model: MorphableModel,
    params: HeadParams,
    heads: HeadGeometry,
    detected: Float[np.ndarray, "n 68 2"],
    *,
    image_size: int,
) -> list[Measured]:
    """By how many degrees each angle differs from that of the detected landmarks, beside a head that never turns.

    A difference that all frames share says how the two define a straight head; it is taken out of both.
    """
    mean = pose_heads(model, mean_params(model, 1)).landmarks[0]
    at_rest = pose_heads(model, neutral(model, params)).landmarks
    rigid = slice(27, 48)  # nose and eyes: expressions move them least
    found = angles(rotations_of_meshes(heads.landmarks[:, rigid], at_rest[:, rigid]))
    wanted = angles(rotations_of_landmarks(detected, mean, image_size=image_size))
    off, straight = found - wanted, -wanted
    off, straight = (np.abs(values - np.median(values, axis=0)) for values in (off, straight))
    return [
        Measured(f"head pose, {name}", "degrees", False, off[:, k], STRAIGHT, straight[:, k])
        for k, name in enumerate(ANGLES)
    ]


def _samples(
    model: MorphableModel, heads: HeadGeometry, images: Float[np.ndarray, "n s s 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Frames spread over all of them, each with the predicted mesh over it."""
    size, chosen = images.shape[1], spread(len(images), SAMPLES)
    camera = official_camera(size)
    draw = jax.jit(lambda vertices: render_mesh(vertices[None], model.faces, camera, width=size, height=size))
    pairs = []
    for k in chosen:
        mesh = draw(jnp.asarray(heads.vertices[k]))
        pairs.append((images[k], overlay(images[k], np.asarray(mesh.normal)[0], np.asarray(mesh.mask)[0])))
    rows = [[image for pair in pairs[first : first + 3] for image in pair] for first in range(0, len(pairs), 3)]
    return grid(rows, captions=["face", "predicted mesh"] * min(3, len(pairs)))
