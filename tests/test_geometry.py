"""Rotations against scipy, cameras against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sheap_jax import geometry
from sheap_jax.types import Camera

rotation_vector_to_matrix = jax.jit(geometry.rotation_vector_to_matrix)
quaternion_to_matrix = jax.jit(geometry.quaternion_to_matrix)
matrix_to_quaternion = jax.jit(geometry.matrix_to_quaternion)
project = jax.jit(geometry.project)

RNG = np.random.default_rng(0)
HALF_TURNS = Rotation.from_rotvec(np.pi * np.concatenate([np.eye(3), [[0.6, 0.8, 0.0], [0.48, 0.6, 0.64]]]))
ROTATIONS = Rotation.concatenate([Rotation.identity(1), Rotation.random(200, random_state=1), HALF_TURNS])


def wxyz(rotation: Rotation) -> np.ndarray:
    return np.roll(rotation.as_quat(), 1, axis=-1)


def test_rotation_vectors_give_scipys_matrices():
    vectors = np.concatenate([ROTATIONS.as_rotvec(), RNG.normal(size=(20, 3)) * 1e-4, RNG.normal(size=(20, 3)) * 4])
    matrices = rotation_vector_to_matrix(jnp.asarray(vectors, jnp.float32))
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(vectors).as_matrix(), atol=3e-6)


def test_rotation_vector_gradient_is_exact_at_and_near_zero():
    """At zero dR/dv_k is the generator [e_k]; around the switch to the series it agrees with finite differences."""
    jacobian = jax.jit(jax.jacfwd(geometry.rotation_vector_to_matrix))(jnp.zeros(3))
    generators = np.stack([np.cross(axis, np.eye(3)).T for axis in np.eye(3)], axis=-1)
    np.testing.assert_allclose(jacobian, generators, atol=1e-7)
    reverse = jax.jit(jax.jacrev(geometry.rotation_vector_to_matrix))
    with jax.enable_x64(True):
        for length in (3e-4, 9e-4, 1.1e-3, 0.5):
            vector = length * np.array([0.36, 0.48, 0.8])
            step = 1e-6
            shifts = [vector + step * sign * axis for axis in np.eye(3) for sign in (1, -1)]
            values = Rotation.from_rotvec(shifts).as_matrix().reshape(3, 2, 3, 3)
            expected = np.moveaxis((values[:, 0] - values[:, 1]) / (2 * step), 0, -1)
            np.testing.assert_allclose(reverse(jnp.asarray(vector)), expected, atol=1e-8)


def test_quaternions_agree_with_scipy_both_ways():
    matrices = quaternion_to_matrix(jnp.asarray(3.0 * wxyz(ROTATIONS), jnp.float32))
    np.testing.assert_allclose(matrices, ROTATIONS.as_matrix(), atol=2e-6)
    quaternions = np.asarray(matrix_to_quaternion(jnp.asarray(ROTATIONS.as_matrix(), jnp.float32)))
    cosine = np.abs(np.sum(quaternions * wxyz(ROTATIONS), axis=-1))
    np.testing.assert_allclose(cosine, 1.0, atol=1e-6)


def test_matrix_to_quaternion_has_finite_gradients_everywhere():
    matrices = jnp.asarray(ROTATIONS.as_matrix(), jnp.float32)
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(matrix_to_quaternion(m)[..., 1] ** 3)))(matrices)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 10


def test_quaternion_product_composes_rotations():
    first, second = ROTATIONS[1:100], ROTATIONS[101:200]
    product = jax.jit(geometry.quaternion_multiply)(jnp.asarray(wxyz(first)), jnp.asarray(wxyz(second)))
    np.testing.assert_allclose(quaternion_to_matrix(product), (first * second).as_matrix(), atol=2e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e6])
def test_normalize_is_safe_for_any_length(size):
    vector = jnp.array([0.6, 0.0, 0.8]) * size
    unit, gradient = geometry.normalize(vector), jax.jit(jax.grad(lambda v: geometry.normalize(v)[0]))(vector)
    assert np.isfinite(gradient).all()
    if size > 1e-6:
        np.testing.assert_allclose(unit, [0.6, 0, 0.8], rtol=1e-6)


def test_official_camera_is_the_releases_formula():
    """x = f X / (1 - Z) + c, y = c - f Y / (1 - Z), f = 3.9989 x width (field facts, section 1)."""
    points = RNG.uniform(-0.12, 0.12, (50, 3))
    camera = geometry.official_camera(224)
    focal, center = 3.9989 * 224, 112.0
    expected = np.stack(
        [
            focal * points[:, 0] / (1 - points[:, 2]) + center,
            center - focal * points[:, 1] / (1 - points[:, 2]),
        ],
        axis=-1,
    )
    # Ten roundings of float32 at 224 pixels; relative errors mean nothing where a coordinate is near zero.
    np.testing.assert_allclose(project(jnp.asarray(points, jnp.float32), camera), expected, rtol=1e-5, atol=2e-4)


def test_project_broadcasts_over_cameras():
    points = jnp.asarray(RNG.normal(size=(2, 5, 3)) * 0.1, jnp.float32)
    one = geometry.official_camera(100)
    two = Camera(jnp.stack([one.viewmat] * 2), jnp.stack([one.intrinsics] * 2))
    np.testing.assert_allclose(project(points, one), project(points, two), rtol=1e-6)


def test_opengl_camera_looks_along_minus_z():
    point = np.array([0.1, 0.2, 0.3, 1.0])
    x, y, z, _ = geometry.opencv_to_opengl(geometry.official_camera(64).viewmat) @ point
    np.testing.assert_allclose([x, y, z], [0.1, 0.2, 0.3 - 1.0], atol=1e-6)  # a translation: no axis is turned
