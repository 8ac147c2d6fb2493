import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sheap_jax.method.binding import bind
from sheap_jax.method.losses.consistency import (
    both_visible,
    depth_error,
    face_normals,
    normal_error,
)
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.types import LocalSurfels


@pytest.fixture
def ball():
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=0.1)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces), np.asarray(mesh.face_normals)


def _as_float64(x):
    return jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _quats(seed: int, *shape: int) -> np.ndarray:
    flat = Rotation.random(int(np.prod(shape)), random_state=seed).as_quat()
    return np.roll(flat, 1, axis=-1).reshape(*shape, 4)  # scipy is xyzw


def test_face_normals_equal_trimesh_also_on_tiny_triangles(ball):
    vertices, faces, truth = ball
    for scale in (1.0, 1e-3):  # edges of 0.05 mm at the smaller one
        normals = face_normals(jnp.asarray(vertices * scale, jnp.float32), jnp.asarray(faces))
        np.testing.assert_allclose(normals, truth, atol=2e-5)


def test_normal_error_is_one_minus_the_cosine(ball):
    vertices, faces, truth = ball
    parent = np.array([0, 7, 7, 79])
    quats = _quats(0, 2, 4)
    surfel = Rotation.from_quat(np.roll(quats.reshape(-1, 4), -1, axis=-1)).as_matrix()[:, :, 2].reshape(2, 4, 3)
    batch = np.broadcast_to(vertices, (2, *vertices.shape))
    error = normal_error(jnp.asarray(quats), jnp.asarray(batch), jnp.asarray(faces), jnp.asarray(parent))
    np.testing.assert_allclose(error, 1 - (surfel * truth[parent]).sum(-1), atol=1e-5)


def test_both_visible_needs_coverage_and_mesh():
    alpha = jnp.array([0.4, 0.6, 0.9])
    mask = jnp.array([True, True, False])
    assert both_visible(alpha, mask).tolist() == [False, True, False]


def test_depth_error_divides_by_alpha_caps_outliers_and_ignores_the_rest():
    alpha = jnp.array([0.8, 0.8, 0.0, 0.8])
    depth = jnp.array([0.8 * 1.005, 0.8 * 1.5, 0.0, 0.8])
    mesh = jnp.array([1.0, 1.0, 1.0, jnp.inf])
    mask = jnp.array([True, True, True, False])
    error = depth_error(depth, alpha, mesh, mask, length_scale=0.1, cutoff=0.02)
    np.testing.assert_allclose(error, [0.05, 0.2, 0, 0], atol=1e-6)


def test_depth_gradient_is_finite_where_nothing_is_visible():
    def total(depth, alpha, mesh):
        mask = jnp.array([True, False, False])
        return depth_error(depth, alpha, mesh, mask, length_scale=0.1, cutoff=0.02).sum()

    arguments = (jnp.array([0.0, jnp.nan, 1.0]), jnp.array([0.0, 0.0, 1.0]), jnp.array([1.0, jnp.inf, jnp.nan]))
    assert float(total(*arguments)) == 0
    for gradient in jax.grad(total, argnums=(0, 1, 2))(*arguments):
        assert gradient.tolist() == [0, 0, 0]


def test_normal_gradient_reaches_surfels_and_vertices(ball, assert_gradient):
    vertices, faces, _ = ball
    parent = np.array([0, 7, 7, 79])
    assert_gradient(
        lambda quats, points: normal_error(quats, points, jnp.asarray(faces), jnp.asarray(parent)),
        1.3 * _quats(1, 2, 4), np.broadcast_to(vertices, (2, *vertices.shape)),
    )  # fmt: skip


def test_normal_error_of_bound_surfels_teaches_the_mesh_nothing(ball, x64):
    """They turn with their faces: the error is that of the local rotation, whatever the mesh does."""
    vertices, faces, _ = ball
    prototypes = jax.tree.map(_as_float64, init_prototypes(len(faces), per_face=1))
    count = len(faces)
    local = LocalSurfels(
        jnp.zeros((count, 3)), jnp.ones((count, 3)), jnp.asarray(_quats(5, count)), *[jnp.ones(count)] * 2
    )

    @jax.jit
    @jax.grad
    def both(arguments):
        points, rotation = arguments
        surfels = bind(local._replace(rotation=rotation), prototypes, points, jnp.asarray(faces))
        return jnp.sum(normal_error(surfels.quats, points, jnp.asarray(faces), prototypes.parent_face) ** 2)

    of_vertices, of_rotations = both((jnp.asarray(vertices), local.rotation))
    np.testing.assert_allclose(of_vertices, 0, atol=1e-10)
    assert float(jnp.abs(of_rotations).max()) > 0.1


def test_depth_gradient_reaches_surfels_and_mesh(assert_gradient):
    rng = np.random.default_rng(3)
    alpha, mesh = rng.uniform(0.6, 1, (4, 5)), rng.uniform(0.9, 1.1, (4, 5))
    mask = jnp.asarray(rng.uniform(size=(4, 5)) > 0.3)
    assert_gradient(
        lambda d, a, m: depth_error(d, a, m, mask, length_scale=0.1, cutoff=0.05),
        alpha * rng.uniform(0.95, 1.05, (4, 5)), alpha, mesh,
    )  # fmt: skip
