import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sheap_jax.evaluation.alignment import Similarity, procrustes


def _points(seed: int, count: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.sampled_from([3, 7, 40]))
def test_a_moved_copy_is_recovered(seed, scale, count):
    rotation = Rotation.random(random_state=seed).as_matrix()
    motion = Similarity(scale, rotation, np.array([3.0, -2.0, 0.5]))
    points = _points(seed, count)
    found = procrustes(points, motion.apply(points), with_scale=True)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-9)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-8)
    np.testing.assert_allclose(found.apply(points), motion.apply(points), atol=1e-9 * (1 + scale))


def test_rigid_alignment_keeps_the_size_and_finds_the_best_rotation():
    points, rotation = _points(1), Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()
    found = procrustes(points, 1.7 * points @ rotation.T, with_scale=False)
    assert found.scale == 1.0
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)


def test_noisy_rotation_equals_scipys():
    source, target = _points(2), _points(2) + 0.2 * _points(3)
    found = procrustes(source, target, with_scale=False)
    truth, _ = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))
    np.testing.assert_allclose(found.rotation, truth.as_matrix(), atol=1e-7)


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_reflection_never_wins(with_scale):
    points = _points(4, 20)
    mirrored = points * [-1.0, 1.0, 1.0]
    found = procrustes(points, mirrored, with_scale=with_scale)
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-9)
    # No proper rotation near it or far from it does better.
    error = np.sum((found.apply(points) - mirrored) ** 2)
    for other in Rotation.random(300, random_state=0).as_matrix():
        candidate = procrustes(points @ other.T, mirrored, with_scale=with_scale)
        turned = Similarity(found.scale, other, np.zeros(3)).apply(points)
        turned += mirrored.mean(0) - turned.mean(0)
        assert np.sum((turned - mirrored) ** 2) >= error - 1e-9
        np.testing.assert_allclose(np.sum((candidate.apply(points @ other.T) - mirrored) ** 2), error, rtol=1e-6)


def test_inverse_undoes_the_motion():
    motion = Similarity(2.5, Rotation.random(random_state=5).as_matrix(), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(motion.apply_inverse(motion.apply(_points(6))), _points(6), atol=1e-12)


def test_dropping_the_scale_keeps_one_point_and_the_rotation():
    motion = Similarity(2.5, Rotation.random(random_state=7).as_matrix(), np.array([1.0, 2.0, 3.0]))
    points = _points(8)
    rigid = motion.without_scale(motion.apply(points)[2])
    np.testing.assert_allclose(rigid.apply(points)[2], motion.apply(points)[2], atol=1e-12)
    expected = (motion.apply(points) - motion.apply(points)[2]) / 2.5
    np.testing.assert_allclose(rigid.apply(points) - rigid.apply(points)[2], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), "n >= 3"),
        (np.zeros((4, 3)), np.zeros((5, 3)), "two"),
        (np.arange(4)[:, None] * np.ones(3), np.arange(4)[:, None] * np.ones(3), "one line"),
    ],
)
def test_points_that_fix_no_rotation_are_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        procrustes(source, target, with_scale=True)
