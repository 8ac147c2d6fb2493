import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.method.losses.regularisers import coefficient_energy, offset_excess, rotation_energy, scale_excess

JOINTS = ("root", "neck", "jaw")


def test_excess_is_zero_inside_and_linear_outside():
    np.testing.assert_allclose(offset_excess(jnp.array([[-1.5, 1.0, 3.0]])), [[0.5, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(scale_excess(jnp.array([[0.1, 0.6, 1.0]])), [[0, 0, 0.4]], atol=1e-6)


def test_energies_are_squares_and_joints_are_chosen_by_name():
    np.testing.assert_allclose(coefficient_energy(jnp.array([-2.0, 3.0])), [4, 9])
    rotations = jnp.zeros((2, 3, 3)).at[1, 1].set(jnp.array([0.1, 0.0, -0.2])).at[1, 0].set(9.0)
    energy = rotation_energy(rotations, joint_names=JOINTS, joints=("jaw", "neck"))
    np.testing.assert_allclose(energy, [[0, 0], [0, 0.05]], rtol=1e-6)


def test_unknown_joint_is_named():
    with pytest.raises(ValueError, match=r"left_eye.*root.*neck.*jaw"):
        rotation_energy(jnp.zeros((3, 3)), joint_names=JOINTS, joints=("left_eye",))


@pytest.mark.parametrize("loss", [coefficient_energy, offset_excess, scale_excess])
def test_gradient(loss, assert_gradient):
    assert_gradient(loss, np.random.default_rng(0).normal(size=(2, 5, 3)) * 2)


def test_rotation_gradient(assert_gradient):
    assert_gradient(
        lambda r: rotation_energy(r, joint_names=JOINTS, joints=("neck",)),
        np.random.default_rng(1).normal(size=(2, 3, 3)),
    )
