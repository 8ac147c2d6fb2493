"""`forward` against an independent float64 NumPy/SciPy implementation of linear blend skinning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import (
    forward,
    head_yaw,
    landmarks,
    mean_params,
    neutral_vertices,
    points_on_faces,
)
from sheap_jax.types import HeadParams


@pytest.fixture(scope="module")
def head():
    """The embedded head with made-up pose correctives, so that these are tested too."""
    model = embedded_head(detail="coarse")
    joints = len(model.parents)
    basis = 1e-3 * np.random.default_rng(5).normal(size=(9 * (joints - 1), model.template.shape[0], 3))
    return dataclasses.replace(model, pose_basis=jnp.asarray(basis, jnp.float32))


def _random_params(model, seed: int, *batch: int) -> HeadParams:
    rng = np.random.default_rng(seed)
    return HeadParams(
        shape=jnp.asarray(rng.normal(size=(*batch, model.identity_basis.shape[0])), jnp.float32),
        expression=jnp.asarray(rng.uniform(size=(*batch, model.expression_basis.shape[0])), jnp.float32),
        rotations=jnp.asarray(0.3 * rng.normal(size=(*batch, len(model.parents), 3)), jnp.float32),
        translation=jnp.asarray(0.1 * rng.normal(size=(*batch, 3)), jnp.float32),
    )


def _forward_float64(model, params: HeadParams) -> np.ndarray:
    """Homogeneous 4x4 transforms, one vertex sum at a time, no code shared with the model."""
    as64 = {f.name: np.asarray(getattr(model, f.name), np.float64) for f in dataclasses.fields(model)[:6]}
    shape, expression, rotations, translation = (np.asarray(a, np.float64) for a in params)
    neutral = as64["template"] + np.einsum("s,svc->vc", shape, as64["identity_basis"])
    joints = as64["joint_regressor"] @ neutral
    local = Rotation.from_rotvec(rotations).as_matrix()
    offsets = np.einsum("e,evc->vc", expression, as64["expression_basis"])
    offsets += np.einsum("p,pvc->vc", (local[1:] - np.eye(3)).ravel(), as64["pose_basis"])
    world = []
    for joint, parent in enumerate(model.parents):
        about = np.eye(4)
        about[:3, :3] = local[joint]
        about[:3, 3] = joints[joint] - local[joint] @ joints[joint]
        world.append(about if parent < 0 else world[parent] @ about)
    moved = np.einsum("jab,vb->vja", np.array(world)[:, :3, :3], neutral + offsets) + np.array(world)[:, :3, 3]
    return np.einsum("vj,vja->va", as64["skinning_weights"], moved) + translation


def test_zero_parameters_give_the_template(head):
    np.testing.assert_allclose(forward(head, mean_params(head)), head.template, atol=1e-7)
    assert forward(head, mean_params(head, 2, 3)).shape == (2, 3, *head.template.shape)


@pytest.mark.parametrize("seed", range(3))
def test_forward_agrees_with_float64(head, seed):
    params = _random_params(head, seed)
    np.testing.assert_allclose(forward(head, params), _forward_float64(head, params), atol=2e-6)


def test_batches_are_independent(head):
    params = _random_params(head, 7, 2, 2)
    together = forward(head, params)
    one = forward(head, jax.tree.map(lambda a: a[1, 0], params))
    np.testing.assert_allclose(together[1, 0], one, atol=1e-6)


def test_root_motion_is_rigid(head):
    """Turning the root and translating moves the whole posed head rigidly, about the identity's root joint."""
    params = _random_params(head, 11)
    still = params._replace(rotations=params.rotations.at[0].set(0.0), translation=jnp.zeros(3))
    vector, shift = np.array([0.3, -0.5, 0.2]), np.array([0.01, -0.02, 0.05])
    moving = still._replace(
        rotations=still.rotations.at[0].set(jnp.asarray(vector, jnp.float32)),
        translation=jnp.asarray(shift, jnp.float32),
    )
    joint = np.asarray(head.joint_regressor @ neutral_vertices(head, params.shape))[0]
    expected = Rotation.from_rotvec(vector).apply(np.asarray(forward(head, still)) - joint) + joint + shift
    np.testing.assert_allclose(forward(head, moving), expected, atol=2e-6)


def test_landmarks_move_rigidly_with_a_translation(head):
    params = _random_params(head, 13)
    shifted = params._replace(translation=params.translation + 0.03)
    first, second = (landmarks(head, forward(head, p), p.rotations) for p in (params, shifted))
    np.testing.assert_allclose(second - first, 0.03, atol=1e-6)


def test_yaw_counts_turns_to_the_left_of_root_and_neck(head):
    rotations = np.zeros((5, 3), np.float32)
    rotations[0, 1], rotations[1, 1] = 0.2, 0.1
    assert float(head_yaw(head, jnp.asarray(rotations))) == pytest.approx(0.3, abs=1e-6)
    nose = landmarks(head, forward(head, mean_params(head)._replace(rotations=jnp.asarray(rotations))), rotations)[30]
    assert float(nose[0]) > 0.02  # towards the subject's left


def test_points_on_faces_take_shared_and_own_faces():
    rng = np.random.default_rng(3)
    vertices, faces = rng.normal(size=(2, 6, 3)), rng.integers(0, 6, size=(4, 3))
    weights = rng.dirichlet(np.ones(3), size=(2, 5))
    index = rng.integers(0, 4, size=(2, 5))
    expected = np.array(
        [
            [sum(weights[b, l, k] * vertices[b, faces[index[b, l], k]] for k in range(3)) for l in range(5)]
            for b in (0, 1)
        ]
    )
    own = points_on_faces(jnp.asarray(vertices), jnp.asarray(faces), jnp.asarray(index), jnp.asarray(weights))
    np.testing.assert_allclose(own, expected, atol=1e-6)
    shared = points_on_faces(jnp.asarray(vertices), jnp.asarray(faces), jnp.asarray(index[0]), jnp.asarray(weights[0]))
    np.testing.assert_allclose(shared[0], expected[0], atol=1e-6)


def test_gradients_are_finite_at_the_mean(head):
    """Rotation vectors of zero are where naive formulas divide by zero."""
    gradient = jax.grad(lambda p: jnp.sum(forward(head, p) ** 2))(mean_params(head))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))
    step = 1e-3
    rotations = np.zeros((5, 3), np.float32)
    rotations[2, 0] = step

    def energy(sign: float) -> float:
        params = mean_params(head)._replace(rotations=jnp.asarray(sign * rotations))
        return float(np.sum(_forward_float64(head, params) ** 2))

    assert float(gradient.rotations[2, 0]) == pytest.approx((energy(1) - energy(-1)) / (2 * step), rel=1e-3)
