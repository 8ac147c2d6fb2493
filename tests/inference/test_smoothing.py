"""The filters of videos against what can be computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from sheap_jax.cropping import CropBox
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.inference.pipeline import Footage, Prediction
from sheap_jax.inference.smoothing import geometric_median, one_euro, one_identity, smooth_motion
from sheap_jax.types import HeadParams

RATE = 25.0


def make_prediction(track: np.ndarray, frame: np.ndarray, rng: np.random.Generator) -> Prediction:
    n = len(track)
    head = HeadParams(
        rng.normal(size=(n, 4)), rng.normal(size=(n, 3)), rng.normal(size=(n, 2, 3)), rng.normal(size=(n, 3))
    )
    footage = Footage(Clip("a", "a", (Path("a.mp4"),), is_video=True), np.arange(frame.max() + 2) / RATE, 10, 10)
    return Prediction(footage, frame, track, CropBox(np.zeros((n, 2)), np.ones(n)), head)


def test_geometric_median_is_where_unit_vectors_to_the_points_cancel():
    points = np.random.default_rng(0).normal(size=(31, 3))
    toward = points - geometric_median(points, iterations=500)
    pull = (toward / np.linalg.norm(toward, axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(pull, 0.0, atol=1e-3)


def test_bad_frames_have_little_pull():
    rng = np.random.default_rng(1)
    points = 1.0 + 0.01 * rng.normal(size=(20, 8))
    points[:6] = 50.0
    assert np.abs(geometric_median(points) - 1.0).max() < 0.02 < np.abs(points.mean(axis=0) - 1.0).min()


def test_one_identity_is_per_track_and_leaves_motion_alone():
    rng = np.random.default_rng(2)
    before = make_prediction(np.array([0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2]), rng)
    after = one_identity(before)
    for track in (0, 1):
        rows = after.track == track
        np.testing.assert_allclose(
            after.head.shape[rows], geometric_median(before.head.shape[rows])[None].repeat(rows.sum(), 0)
        )
    assert not np.allclose(after.head.shape[0], after.head.shape[1])
    for name in ("expression", "rotations", "translation"):
        np.testing.assert_array_equal(getattr(after.head, name), getattr(before.head, name))


def test_one_euro_without_beta_is_exponential_smoothing():
    """Share of a new value: 1 / (1 + tau / T) with tau = 1 / (2 pi cutoff); a gap of two frames doubles T."""
    seconds = np.array([0.0, 1.0, 2.0, 4.0]) / RATE
    found = one_euro(np.array([[0.0], [1.0], [1.0], [1.0]]), seconds, min_cutoff=2.0, beta=0.0)
    tau, value, expected = 1 / (2 * np.pi * 2.0), 0.0, [0.0]
    for step in np.diff(seconds):
        value += (1 - value) / (1 + tau / step)
        expected.append(value)
    np.testing.assert_allclose(found[:, 0], expected)


def test_one_euro_calms_what_is_still_and_follows_what_moves():
    rng, seconds = np.random.default_rng(3), np.arange(200) / RATE
    noise = 0.01 * rng.normal(size=(200, 1))
    assert one_euro(noise, seconds, min_cutoff=0.5, beta=1.0)[50:].std() < 0.5 * noise.std()
    ramp = 4.0 * seconds[:, None]
    lag = [np.mean(ramp - one_euro(ramp, seconds, min_cutoff=0.5, beta=beta)) for beta in (0.0, 5.0)]
    assert lag[1] < 0.2 * lag[0]


def test_smooth_motion_filters_each_track_by_its_own_times():
    rng = np.random.default_rng(4)
    both = make_prediction(np.array([0, 1, 0, 0, 1]), np.array([0, 0, 1, 4, 4]), rng)
    found = smooth_motion(both, min_cutoff=1.0, beta=0.3)
    for track in (0, 1):
        rows = both.track == track
        alone = Prediction(
            both.footage, both.frame[rows], both.track[rows], both.box, HeadParams(*(x[rows] for x in both.head))
        )
        for ours, theirs in zip(found.head, smooth_motion(alone, min_cutoff=1.0, beta=0.3).head, strict=True):
            np.testing.assert_allclose(ours[rows], theirs)
    np.testing.assert_array_equal(found.head.shape, both.head.shape)
    assert not np.allclose(found.head.rotations, both.head.rotations)


def test_smooth_motion_goes_by_the_stamps_of_frames():
    """By hand: after a pause of two seconds a new value counts nearly alone."""
    track, frame = np.zeros(3, int), np.arange(3)
    before = make_prediction(track, frame, np.random.default_rng(5))
    before = before._replace(footage=before.footage._replace(times=np.array([0.0, 0.04, 2.04, 2.08])))
    found = smooth_motion(before, min_cutoff=1.0, beta=0.0).head.expression
    tau, value = 1 / (2 * np.pi), before.head.expression[0]
    for row, step in ((1, 0.04), (2, 2.0)):
        value = value + (before.head.expression[row] - value) / (1 + tau / step)
        np.testing.assert_allclose(found[row], value)


@pytest.mark.parametrize("count", [1, 2])
def test_median_of_one_or_two_points(count):
    points = np.arange(3.0 * count).reshape(count, 3)
    np.testing.assert_allclose(geometric_median(points), points.mean(axis=0))
