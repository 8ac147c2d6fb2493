"""A tiny embedded test split whose images say which record they are, and predictors that read it off them."""

from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax.cropping import Framing
from sheap_jax.data.embedded.truth import Truth, save_truth
from sheap_jax.data.records import Record, write_split
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable import MorphableModel, forward, landmarks
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import neutral_vertices
from sheap_jax.types import HeadParams

IDENTITIES, FRAMES, SIZE = 2, 3, 32
GRAY_STEP = 30  # of 255: image k is plain gray of brightness k x GRAY_STEP
NOW = np.array([36, 39, 42, 45, 33, 48, 54])


class TinyBenchmark(NamedTuple):
    directory: str
    model: MorphableModel
    params: HeadParams  # of the six records
    truth: Truth


class FakePredictor:
    """Knows the parameters of each record and renders what `render(source, target)` says."""

    framing: Framing = "pixels"

    def __init__(self, model: MorphableModel, params: HeadParams, render=lambda source, target: target):
        self.model, self.params, self.reanimate = model, params, render

    def __call__(self, images: jax.Array) -> HeadParams:
        index = np.round(np.mean(np.asarray(images), axis=(1, 2, 3)) * 255 / GRAY_STEP).astype(int)
        return jax.tree.map(lambda values: np.asarray(values)[index], self.params)


def write_tiny_benchmark(directory: Path) -> TinyBenchmark:
    """People that the morphable model spans exactly, so that the right parameters must give zero error."""
    model = embedded_head(detail="coarse")
    params = _params(model)
    vertices = jax.jit(forward)(model, params)
    points = jax.jit(landmarks)(model, vertices, params.rotations)
    neutral = jax.jit(neutral_vertices)(model, params.shape)
    neutral_points = jax.jit(landmarks)(model, neutral, 0 * params.rotations)
    truth = Truth(
        faces=np.asarray(model.faces),
        neutral=np.asarray(neutral)[::FRAMES],
        posed=np.asarray(vertices),
        identity_index=np.repeat(np.arange(IDENTITIES, dtype=np.int32), FRAMES),
        face_mask=np.asarray(model.regions["face"]) > 0,
        landmarks7_neutral=np.asarray(neutral_points)[::FRAMES, NOW],
        landmarks7_posed=np.asarray(points)[:, NOW],
        landmarks2d=np.asarray(project(points, official_camera(SIZE))),
    )
    records = (_record(k, truth.landmarks2d[k]) for k in range(IDENTITIES * FRAMES))
    write_split(directory, "test", records, settings={"image_size": SIZE})
    save_truth(directory, "test", truth)
    return TinyBenchmark(str(directory), model, params, truth)


def _params(model: MorphableModel) -> HeadParams:
    rng, count = np.random.default_rng(0), IDENTITIES * FRAMES
    jaw = model.joint_names.index("jaw")
    rotations = np.zeros((count, len(model.parents), 3), np.float32)
    rotations[:, 0] = 0.2 * rng.normal(size=(count, 3))
    rotations[:, jaw, 0] = rng.uniform(0.05, 0.25, count)
    return HeadParams(
        shape=jnp.asarray(
            np.repeat(rng.normal(size=(IDENTITIES, model.identity_basis.shape[0])), FRAMES, 0), jnp.float32
        ),
        expression=jnp.asarray(rng.uniform(0, 0.7, (count, model.expression_basis.shape[0])), jnp.float32),
        rotations=jnp.asarray(rotations),
        translation=jnp.asarray(0.005 * rng.normal(size=(count, 3)), jnp.float32),
    )


def _record(k: int, points: np.ndarray) -> Record:
    image = np.full((SIZE, SIZE, 3), k * GRAY_STEP, np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    identity, frame = divmod(k, FRAMES)
    return Record(f"person{identity}", "clip", frame, jpeg, points.astype(np.float32), np.ones(68, np.float32))
