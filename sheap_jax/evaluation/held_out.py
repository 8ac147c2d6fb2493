"""A few held-out pairs, always the same: scored again and again while a network learns.

    landmarks       of each target frame, predicted from that frame alone, in pixels
    re-animation    source to target, in the face (hull of the landmarks)
    neutral heads   where the truth is known: scan to mesh after similarity alignment, as in the embedded benchmark

A small sample, for watching and for choosing a checkpoint. What a network reaches is measured by the benchmarks.
"""

import os
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sheap_jax.data.embedded.truth import Truth, load_truth, truth_path
from sheap_jax.data.frames import decode_frame
from sheap_jax.data.pair_table import evaluation_pairs
from sheap_jax.data.records import Split
from sheap_jax.evaluation import image_scores
from sheap_jax.evaluation.geometry_scores import Scan, errors_of_all, pool, statistics
from sheap_jax.evaluation.predictions import NetworkUnderTest, neutral, pose_heads, project_landmarks
from sheap_jax.evaluation.samples import sample_grid, spread
from sheap_jax.types import HeadParams

SPLIT = "test"
PAIRS = 16  # at most one of a person
PICTURED = 6
FEWEST_LANDMARKS = 10  # that a target must have
SCAN_STRIDE = 12  # vertices of the true face per scan point
LANDMARKS, GEOMETRY = "held_out/landmarks_px", "held_out/neutral_heads_mm"


class HeldOutPairs(NamedTuple):
    """Pairs of frames of people that are not trained on, NumPy arrays at the network's size."""

    source: Float[np.ndarray, "p h w 3"]
    target: Float[np.ndarray, "p h w 3"]
    landmarks: Float[np.ndarray, "p 68 2"]  # of the targets: true where the truth is known, else detected
    seen: Bool[np.ndarray, "p 68"]
    face: Bool[np.ndarray, "p h w"]  # hull of the landmarks
    scans: list[Scan] | None  # of the targets' people at rest, where the truth is known


class HeldOutScores(NamedTuple):
    """What a network reached on the pairs."""

    values: dict[str, float]
    score: float  # what checkpoints are compared by, the smaller the better: geometry if it is known, else landmarks
    picture: UInt8[np.ndarray, "y x 3"]  # source, target, re-animated, mesh over the target, normals


def load_held_out_pairs(directory: str | os.PathLike[str], *, image_size: int, count: int = PAIRS) -> HeldOutPairs:
    """At most `count` pairs of the split `test`, spread over its people.

    Raises:
        ShardError: there is no such split, or it is damaged.
        ValueError: it has no pair of frames whose landmarks were detected.
    """
    split = Split(directory, SPLIT)
    truth = load_truth(directory, SPLIT) if truth_path(directory, SPLIT).exists() else None
    pairs = evaluation_pairs(split, per_identity=1)
    found, kept = [], []
    for source, target in pairs[spread(len(pairs), count)]:
        first, second = (decode_frame(split[int(record)], image_size=image_size) for record in (source, target))
        points, seen = np.asarray(second.landmarks), np.asarray(second.landmark_weight) > 0
        if truth is not None:
            points = truth.landmarks2d[target] * (image_size / split.manifest["settings"]["image_size"])
            seen = np.ones(len(points), bool)
        face = _face(points[seen], image_size)
        if face is not None:
            found.append((np.asarray(first.image), np.asarray(second.image), points, seen, face))
            kept.append(int(target))
    if not found:
        raise ValueError(f"{split.directory}, split {SPLIT!r}: no pair of frames has landmarks in its second frame")
    source, target, landmarks, seen, face = (np.stack(column) for column in zip(*found, strict=True))
    scans = None if truth is None else _scans(truth, np.array(kept))
    return HeldOutPairs(source, target, landmarks, seen, face, scans)


def _face(points: Float[np.ndarray, "l 2"], size: int) -> Bool[np.ndarray, "h w"] | None:
    """The hull of the landmarks seen; None if it has no pixel: they are few, on a line, or outside the picture."""
    from scipy.spatial import QhullError

    if len(points) < FEWEST_LANDMARKS:
        return None
    try:
        mask = image_scores.hull_mask(points, height=size, width=size)
    except (QhullError, ValueError):
        return None
    return mask if mask.any() else None


def score_pairs(network: NetworkUnderTest, pairs: HeldOutPairs) -> HeldOutScores:
    """Score a network on the pairs, and picture the first of them. Without finite predictions the score is infinite."""
    count, size = len(pairs.source), pairs.source.shape[1]
    images = np.concatenate([pairs.source, pairs.target])
    params = HeadParams._make(np.asarray(leaf) for leaf in network(images))  # pyright: ignore[reportArgumentType]
    rendered = np.asarray(network.reanimate(pairs.source, pairs.target))  # pyright: ignore[reportArgumentType]
    own = jax.tree.map(lambda leaf: leaf[count:], params)
    points = project_landmarks(pose_heads(network.model, own), image_size=size)
    shown = np.stack([np.arange(count), count + np.arange(count)], axis=-1)[:PICTURED]
    picture = sample_grid(network.model, params, shown, images, rendered[: len(shown)])
    if not all(np.isfinite(leaf).all() for leaf in (*params, rendered)):
        return HeldOutScores({}, np.inf, picture)
    values = {
        LANDMARKS: float(np.linalg.norm(points - pairs.landmarks, axis=-1)[pairs.seen].mean()),
        "held_out/psnr_face_db": float(image_scores.psnr(rendered, pairs.target, pairs.face).mean()),
        "held_out/ssim_face": float(image_scores.ssim(rendered, pairs.target, pairs.face).mean()),
    }
    if pairs.scans is not None:
        meshes = pose_heads(network.model, neutral(network.model, own)).meshes()
        errors = errors_of_all(list(zip(pairs.scans, meshes, strict=True)), np.asarray(network.model.faces))
        values[GEOMETRY] = statistics(pool(errors).similarity).median
    return HeldOutScores(values, values.get(GEOMETRY, values[LANDMARKS]), picture)


def _scans(truth: Truth, records: Int[np.ndarray, "p"]) -> list[Scan]:
    """The people of these records at rest."""
    mask = np.flatnonzero(truth.face_mask)[::SCAN_STRIDE]
    people = truth.identity_index[records]
    return [
        Scan(truth.neutral[k][mask].astype(np.float64), truth.landmarks7_neutral[k].astype(np.float64)) for k in people
    ]
