"""The embedded benchmark: a trained network on held-out generated people, whose true geometry is known.

Geometry is scored as NoW does it (geometry_scores), on the people's own fine meshes, which have detail that the
morphable model cannot express. Every number stands beside those of baselines, which see less:

    neutral heads       the mean head
    expressive heads    the mean head (alignment gives it the best pose); the predicted person without expression.
                        Once over the whole face, once where the expression moves it. There the predicted person at
                        rest is also measured on the true person at rest: this error of the identity is what a
                        perfect expression would leave
    landmarks           the mean head, held still where the landmarks lie on average
    re-animation        the source image as it is; the target's mean colour
"""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sheap_jax.data.embedded.truth import Truth, load_truth
from sheap_jax.data.frames import frame_batches
from sheap_jax.data.pair_table import evaluation_pairs
from sheap_jax.data.records import Split
from sheap_jax.evaluation.alignment import procrustes
from sheap_jax.evaluation.embedded_set import DataVersion, version_of
from sheap_jax.evaluation.geometry_report import geometry_comparisons, geometry_curves, values_per_image
from sheap_jax.evaluation.geometry_scores import Scan, ScanErrors, errors_of_all
from sheap_jax.evaluation.predictions import (
    EYE_CORNERS,
    MEAN_HEAD,
    NO_EXPRESSION,
    OURS,
    HeadGeometry,
    NetworkUnderTest,
    expressionless,
    neutral,
    pose_heads,
    project_landmarks,
)
from sheap_jax.evaluation.reanimation_scores import FACE_PSNR, FACE_SSIM, MEAN_COLOR, SOURCE_IMAGE, picture_scores
from sheap_jax.evaluation.report import BenchmarkReport, Measured, PerImage
from sheap_jax.evaluation.samples import sample_grid, spread
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import CONTOUR_LANDMARKS, mean_params
from sheap_jax.types import HeadParams

SCAN_STRIDE = 3  # every third vertex of the masked face is a scan point: the median moves by about 0.01 mm
BATCH_SIZE = 32  # records decoded at a time
PAIRS_PER_IDENTITY = 4
MOVED = 0.002  # metres
STILL_LANDMARKS = 5  # of the seven: without the mouth corners
SAMPLES = 6  # pairs in the picture

NEUTRAL, EXPRESSIVE, MOVING = "neutral heads", "expressive heads", "where expressions move the face"
AT_REST = "predicted head at rest, on the person at rest"
MAIN_ROWS = (
    (f"{NEUTRAL}, similarity, median", MEAN_HEAD),
    (f"{NEUTRAL}, rigid, median", MEAN_HEAD),
    (f"{EXPRESSIVE}, similarity, median", MEAN_HEAD),
    (f"{MOVING}, similarity, median", NO_EXPRESSION),
    ("landmarks", MEAN_HEAD),
    (FACE_PSNR, SOURCE_IMAGE),
    (FACE_PSNR, MEAN_COLOR),
    (FACE_SSIM, SOURCE_IMAGE),
)


class EmbeddedFrames(NamedTuple):
    """The split in memory, in record order."""

    images: Float[np.ndarray, "n h w 3"]
    pairs: Int[np.ndarray, "p 2"]  # records (source, target)
    truth: Truth  # with landmarks2d in pixels of `images`
    names: list[str]
    people: list[str]
    version: DataVersion


def evaluate_embedded(
    predictor: NetworkUnderTest,
    directory: str | os.PathLike[str],
    *,
    image_size: int,
    split: str = "test",
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Score a network on one split of an embedded data set.

    Args:
        predictor: the network.
        directory: of the shards and `truth-{split}.npz`.
        image_size: pixels of the square images that the network takes.
        split: its people must not have been trained on.
        progress: wraps the longest iteration, for a progress bar.

    Raises:
        FileNotFoundError: the split has no ground truth.
        ShardError: the shards are missing or damaged.
        ValueError: ground truth and shards do not belong together.
    """
    frames = load_frames(directory, split, image_size=image_size)
    model, truth = predictor.model, frames.truth
    params = jax.tree.map(np.asarray, predictor(jnp.asarray(frames.images)))
    posed = pose_heads(model, params)
    errors = geometry_errors(model, params, posed, truth, progress=progress)
    source, target = frames.images[frames.pairs[:, 0]], frames.images[frames.pairs[:, 1]]
    rendered = np.asarray(predictor.reanimate(jnp.asarray(source), jnp.asarray(target)))
    landmarks = landmark_scores(model, posed, truth, image_size=image_size)
    pictures = picture_scores(source, target, rendered, list(truth.landmarks2d[frames.pairs[:, 1]]))
    shown = spread(len(frames.pairs), SAMPLES)
    return BenchmarkReport(
        benchmark="embedded",
        version=frames.version.name,
        settings=frames.version.settings,
        counts={
            "frames": len(frames.images),
            "identities": len(truth.neutral),
            "re-animated pairs": len(frames.pairs),
            "scan points": sum(len(one.rigid) for one in errors[NEUTRAL][OURS]),
        },
        comparisons=[
            *geometry_comparisons(errors),
            *(one.comparison() for one in landmarks + pictures),
        ],
        per_image=per_image_values(frames, errors, landmarks, pictures),
        curves=geometry_curves(errors),
        main_rows=MAIN_ROWS,
        samples=sample_grid(model, params, frames.pairs[shown], frames.images, rendered[shown]),
    )


def load_frames(directory: str | os.PathLike[str], split: str, *, image_size: int) -> EmbeddedFrames:
    """Images, pairs and ground truth of a split; errors as in `evaluate_embedded`."""
    shards, truth = Split(directory, split), load_truth(directory, split)
    if len(truth.posed) != len(shards):
        raise ValueError(
            f"the ground truth of split {split!r} in {directory} has {len(truth.posed)} records, the shards have "
            f"{len(shards)}: generate the data set again"
        )
    batches = frame_batches(directory, split, batch_size=BATCH_SIZE, image_size=image_size)
    images = np.concatenate([np.asarray(batch.frame.image)[batch.valid] for batch in batches])
    stored = shards.manifest["settings"]["image_size"]
    truth = truth._replace(landmarks2d=truth.landmarks2d * np.float32(image_size / stored))
    return EmbeddedFrames(
        images,
        evaluation_pairs(shards, per_identity=PAIRS_PER_IDENTITY),
        truth,
        [shards.key(record) for record in range(len(shards))],
        [shards.key(record).split("/")[0] for record in range(len(shards))],
        version_of(directory, split),
    )


def geometry_errors(
    model: MorphableModel,
    params: HeadParams,
    posed: HeadGeometry,
    truth: Truth,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, list[ScanErrors]]]:
    """Scan-to-mesh errors per frame: kind of geometry -> method -> frames in record order."""
    mean_head = pose_heads(model, mean_params(model, len(truth.posed))).meshes()
    people = _scans(truth.neutral, truth.landmarks7_neutral, truth.face_mask)
    frames = _scans(truth.posed, truth.landmarks7_posed, truth.face_mask)
    own = [people[i] for i in truth.identity_index]
    jobs = {
        (NEUTRAL, OURS): zip(own, pose_heads(model, neutral(model, params)).meshes(), strict=True),
        (NEUTRAL, MEAN_HEAD): zip(people, mean_head, strict=False),
        (EXPRESSIVE, OURS): zip(frames, posed.meshes(), strict=True),
        (EXPRESSIVE, MEAN_HEAD): zip(frames, mean_head, strict=True),
        (EXPRESSIVE, NO_EXPRESSION): zip(
            frames, pose_heads(model, expressionless(model, params)).meshes(), strict=True
        ),
    }
    pairs = [(key, pair) for key, job in jobs.items() for pair in job]
    found = errors_of_all([pair for _, pair in pairs], np.asarray(model.faces), progress=progress)
    errors: dict[str, dict[str, list[ScanErrors]]] = {NEUTRAL: {}, EXPRESSIVE: {}}
    for ((kind, method), _), result in zip(pairs, found, strict=True):
        errors[kind].setdefault(method, []).append(result)
    # The mean head is the same for every frame of a person; like ours it counts once per frame.
    per_person = errors[NEUTRAL][MEAN_HEAD]
    errors[NEUTRAL][MEAN_HEAD] = [per_person[i] for i in truth.identity_index]
    moving = moving_points(truth)
    if moving.any():
        errors[MOVING] = {}
        for method, frame_errors in [*errors[EXPRESSIVE].items(), (AT_REST, errors[NEUTRAL][OURS])]:
            masked = zip(frame_errors, moving, strict=True)
            errors[MOVING][method] = [ScanErrors(one.similarity[mask], one.rigid[mask]) for one, mask in masked]
    return errors


def moving_points(truth: Truth) -> Bool[np.ndarray, "n p"]:
    """Which scan points of each posed head the expression moves by more than 2 mm.

    Most of a face keeps still in most expressions, so that errors of the whole face say little about them. The head
    pose is taken out by eye corners and nose base, which no expression moves much.
    """
    people = _scans(truth.neutral, truth.landmarks7_neutral, truth.face_mask)
    frames = _scans(truth.posed, truth.landmarks7_posed, truth.face_mask)
    moved = []
    for scan, still in zip(frames, (people[i] for i in truth.identity_index), strict=True):
        pose = procrustes(scan.landmarks[:STILL_LANDMARKS], still.landmarks[:STILL_LANDMARKS], with_scale=False)
        moved.append(np.linalg.norm(pose.apply(scan.points) - still.points, axis=-1) > MOVED)
    return np.stack(moved)


def landmark_scores(model: MorphableModel, posed: HeadGeometry, truth: Truth, *, image_size: int) -> list[Measured]:
    """Distance of projected landmarks to the noise-free ones, in pixels and in distances between the eyes."""
    ours = project_landmarks(posed, image_size=image_size)
    mean_head = pose_heads(model, mean_params(model, len(truth.posed)))
    still = project_landmarks(mean_head, image_size=image_size)
    still = still + np.mean(truth.landmarks2d - still, axis=(0, 1))
    eyes = np.linalg.norm(np.subtract(*(truth.landmarks2d[:, corner] for corner in EYE_CORNERS)), axis=-1)[:, None]
    ours, still = (np.linalg.norm(points - truth.landmarks2d, axis=-1) for points in (ours, still))
    inner = np.s_[:, CONTOUR_LANDMARKS:]
    rows = [
        ("landmarks", "px", ours, still),
        ("landmarks without the jaw line", "px", ours[inner], still[inner]),
        ("landmarks / distance of the eyes", "", ours / eyes, still / eyes),
    ]
    return [
        Measured(name, unit, False, values.mean(axis=1), MEAN_HEAD, baseline.mean(axis=1))
        for name, unit, values, baseline in rows
    ]


def per_image_values(
    frames: EmbeddedFrames,
    errors: dict[str, dict[str, list[ScanErrors]]],
    landmarks: list[Measured],
    pictures: list[Measured],
) -> list[PerImage]:
    """Ours, of each frame and of each re-animated pair."""
    geometry = values_per_image({kind: methods[OURS] for kind, methods in errors.items()})
    of_frames = geometry | {one.quantity: one.ours for one in landmarks}
    names, people = frames.names, frames.people
    return [
        PerImage(names, people, of_frames),
        PerImage(
            [f"{names[source]} -> {names[target]}" for source, target in frames.pairs],
            [people[source] for source, _ in frames.pairs],
            {one.quantity: one.ours for one in pictures},
        ),
    ]


def _scans(
    vertices: Float[np.ndarray, "n v 3"], landmarks: Float[np.ndarray, "n 7 3"], mask: Bool[np.ndarray, "v"]
) -> list[Scan]:
    points = vertices[:, np.flatnonzero(mask)[::SCAN_STRIDE]].astype(np.float64)
    return [Scan(*pair) for pair in zip(points, landmarks.astype(np.float64), strict=True)]
