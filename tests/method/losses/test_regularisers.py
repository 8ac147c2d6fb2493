import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.method.losses.regularisers import coefficient_energy, offset_excess, scale_excess


def test_excess_is_zero_inside_and_linear_outside():
    np.testing.assert_allclose(offset_excess(jnp.array([[-1.5, 1.0, 3.0]])), [[0.5, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(scale_excess(jnp.array([[0.1, 0.6, 1.0]])), [[0, 0, 0.4]], atol=1e-6)


def test_energy_is_the_square():
    np.testing.assert_allclose(coefficient_energy(jnp.array([-2.0, 3.0])), [4, 9])


@pytest.mark.parametrize("loss", [coefficient_energy, offset_excess, scale_excess])
def test_gradient(loss, assert_gradient):
    assert_gradient(loss, np.random.default_rng(0).normal(size=(2, 5, 3)) * 2)
