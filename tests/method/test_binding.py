"""Surfels follow their triangles: rigidly, stretching with the sides, and without NaN when a triangle collapses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation

from sheap_jax.geometry import quaternion_to_matrix
from sheap_jax.method.binding import MIN_LENGTH, bind, triangle_frames
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.types import LocalSurfels, Surfels

FACES = jnp.array([[0, 1, 2], [2, 1, 3]])
PROTOTYPES = init_prototypes(2, per_face=3)


def random_scene(seed: int) -> tuple[np.ndarray, LocalSurfels]:
    """Four vertices of about a centimetre, and local surfels with every kind of offset and rotation."""
    rng = np.random.default_rng(seed)
    vertices = 0.01 * (np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]) + 0.2 * rng.normal(size=(4, 3)))
    local = LocalSurfels(
        offset=rng.normal(size=(6, 3)),
        scale=rng.uniform(0.2, 0.8, (6, 3)),
        rotation=rng.normal(size=(6, 4)),
        albedo=rng.uniform(size=(6, 3)),
        opacity=rng.uniform(size=6),
    )
    return vertices.astype(np.float32), jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), local)


@jax.jit
def bound(vertices: np.ndarray, local: LocalSurfels) -> Surfels:
    return bind(local, PROTOTYPES, vertices, FACES)


@jax.jit
def gradients(vertices: np.ndarray, local: LocalSurfels) -> tuple[np.ndarray, LocalSurfels]:
    return jax.grad(lambda v, l: sum(jnp.sum(x) for x in bind(l, PROTOTYPES, v, FACES)), argnums=(0, 1))(
        vertices, local
    )


frames_of = jax.jit(triangle_frames)
to_matrix = jax.jit(quaternion_to_matrix)


def test_frame_of_a_known_triangle():
    frames = frames_of(jnp.array([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.5, 2.0]]))
    np.testing.assert_allclose(frames.rotation.T, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-7)  # t, b, n
    np.testing.assert_allclose(frames.scale, [2, 1, 1], rtol=1e-6)


def test_identity_surfels_lie_on_their_faces():
    vertices, local = random_scene(0)
    local = local._replace(offset=jnp.zeros((6, 3)), rotation=jnp.tile(jnp.array([1.0, 0, 0, 0]), (6, 1)))
    surfels = bound(vertices, local)
    corners = vertices[np.asarray(FACES)][np.asarray(PROTOTYPES.parent_face)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    means = np.einsum("nk,nkc->nc", PROTOTYPES.barycentric, corners)
    np.testing.assert_allclose(surfels.means, means, atol=1e-8)
    np.testing.assert_allclose(to_matrix(surfels.quats)[..., 2], normals, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rigid_motion_of_the_mesh_moves_surfels_rigidly(seed):
    vertices, local = random_scene(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    shift = np.random.default_rng(seed + 1).normal(size=3) * 0.1
    before = bound(vertices, local)
    after = bound((vertices @ rotation.T + shift).astype(np.float32), local)
    np.testing.assert_allclose(after.means, np.asarray(before.means) @ rotation.T + shift, atol=2e-6)
    expected = rotation @ np.asarray(to_matrix(before.quats))
    np.testing.assert_allclose(to_matrix(after.quats), expected, atol=1e-3)
    np.testing.assert_allclose(after.scales, before.scales, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize(("side", "factor"), [("u", 3.0), ("v", 2.5)])
def test_stretching_a_side_stretches_only_that_axis(side, factor):
    """A right triangle along x and y: stretching x scales offsets and sizes along x alone."""
    triangle = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.02, 0], [0.03, 0.03, 0]], np.float32)
    axis = 0 if side == "u" else 1
    stretch = np.ones(3, np.float32)
    stretch[axis] = factor
    _, local = random_scene(3)
    local = local._replace(offset=local.offset.at[:, 2].set(0), rotation=jnp.tile(jnp.array([1.0, 0, 0, 0]), (6, 1)))
    before, after = bound(triangle, local), bound(triangle * stretch, local)
    first = np.asarray(PROTOTYPES.parent_face) == 0
    np.testing.assert_allclose(after.means[first], before.means[first] * stretch, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(after.scales[first, :2], before.scales[first, :2] * stretch[:2], rtol=1e-5)
    np.testing.assert_allclose(after.quats[first], before.quats[first], atol=1e-6)


def test_isotropic_binding_has_one_size_per_triangle():
    """A right triangle of 1 x 2 cm: offsets and sizes are in units of their mean along every axis."""
    triangle = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.02, 0], [0.03, 0.03, 0]], np.float32)
    _, local = random_scene(7)
    surfels = bind(local, PROTOTYPES, jnp.asarray(triangle), FACES, isotropic=True)
    first = np.asarray(PROTOTYPES.parent_face) == 0
    anchors = np.einsum("nk,nkc->nc", PROTOTYPES.barycentric, triangle[np.asarray(FACES)[PROTOTYPES.parent_face]])
    np.testing.assert_allclose(surfels.scales[first], 0.015 * local.scale[first], rtol=1e-5)
    np.testing.assert_allclose((surfels.means - anchors)[first], 0.015 * local.offset[first], atol=1e-8)


def test_normal_offsets_scale_with_the_shorter_side():
    _, local = random_scene(4)
    local = local._replace(offset=jnp.tile(jnp.array([0.0, 0.0, 1.0]), (6, 1)))
    triangle = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.02, 0], [0.03, 0.03, 0]], np.float32)
    heights = np.asarray(bound(triangle, local).means[:, 2])[np.asarray(PROTOTYPES.parent_face) == 0]
    np.testing.assert_allclose(heights, 0.01, rtol=1e-5)


@pytest.mark.parametrize(
    "corners",
    [
        np.zeros((3, 3)),
        [[0, 0, 0], [0, 0, 0], [0.01, 0, 0]],
        [[0, 0, 0], [0.01, 0, 0], [0.02, 0, 0]],
        [[0, 0, 0], [0.01, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0.01, 0], [0, 0.02, 1e-9]],
    ],
    ids=["point", "first side", "collinear", "second side", "sliver"],
)
def test_degenerate_triangles_stay_finite(corners):
    corners = jnp.asarray(corners, jnp.float32)
    frames = frames_of(corners)
    np.testing.assert_allclose(frames.rotation.T @ frames.rotation, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(frames.rotation), 1.0, atol=1e-5)
    assert (frames.scale >= MIN_LENGTH).all()

    _, local = random_scene(5)
    vertices = jnp.concatenate([corners, jnp.array([[0.03, 0.02, 0.01]])])
    for leaf in jax.tree.leaves(gradients(vertices, local)):
        assert np.isfinite(leaf).all()


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        vertices, local = random_scene(6)
        vertices, local = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (vertices * 100, local))
        prototypes = PROTOTYPES._replace(barycentric=PROTOTYPES.barycentric.astype(jnp.float64))
        weights = [jnp.asarray(np.random.default_rng(k).normal(size=(6, 4))) for k in range(3)]

        def loss(vertices, local):
            s = bind(local, prototypes, vertices, FACES)
            outputs = (s.means, s.quats, s.scales)
            return sum(jnp.sum(w[:, : x.shape[1]] * x) for w, x in zip(weights, outputs, strict=True))

        check_grads(jax.jit(loss), (vertices, local), order=1, modes=["rev"], eps=1e-5, atol=1e-6, rtol=1e-6)


def test_batches_are_bound_independently():
    scenes = [random_scene(seed) for seed in range(3)]
    vertices = np.stack([vertices for vertices, _ in scenes])
    local = jax.tree.map(lambda *x: jnp.stack(x), *[local for _, local in scenes])
    together = bound(vertices, local)
    for k, (one, its_local) in enumerate(scenes):
        for batched, single in zip(together, bound(one, its_local), strict=True):
            np.testing.assert_allclose(batched[k], single, atol=1e-6)
