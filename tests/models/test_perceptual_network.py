"""The pieces of LPIPS against flax's; the whole network is compared with PyTorch's in test_parity.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.models import perceptual


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_halving_is_max_pooling_with_its_gradient(size):
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    result, gradient = jax.vjp(perceptual.halve, maps)
    expected, expected_gradient = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), maps)
    np.testing.assert_array_equal(result, expected)
    cotangent = jnp.asarray(rng.normal(size=result.shape), jnp.float32)
    np.testing.assert_array_equal(gradient(cotangent)[0], expected_gradient(cotangent)[0])


def test_relu_has_no_gradient_at_zero():
    x = jnp.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(perceptual.relu(x), [0, 0, 2])
    np.testing.assert_array_equal(jax.grad(lambda x: perceptual.relu(x).sum())(x), [0, 0, 1])
