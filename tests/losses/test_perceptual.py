"""The perceptual term's gradient; its values are compared with PyTorch in tests/models/test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax.losses.perceptual import perceptual_error
from sheap_jax.models.perceptual import Lpips


def test_coarse_maps_are_interpolated_between_their_pixels():
    fine, coarse = jnp.zeros((1, 4, 4)), jnp.asarray([[[0.0, 1.0], [0.0, 1.0]]])
    np.testing.assert_allclose(perceptual_error((fine, coarse))[0, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_gradient(assert_gradient):
    network = Lpips(stages=((3,), (4,)), dtype=jnp.float64)
    first, second = np.random.default_rng(0).uniform(size=(2, 1, 6, 6, 3))
    params = network.init(jax.random.key(0), jnp.asarray(first), jnp.asarray(second))
    assert_gradient(lambda rendered: perceptual_error(network.apply(params, rendered, jnp.asarray(second))), first)
