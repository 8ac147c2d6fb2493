"""From LPIPS's maps to one value per pixel; the maps themselves are compared with PyTorch in tests/models."""

import jax.numpy as jnp
import numpy as np

from sheap_jax.method.losses.perceptual import perceptual_error


def test_coarse_maps_are_interpolated_between_their_pixels():
    fine, coarse = jnp.zeros((1, 4, 4)), jnp.asarray([[[0.0, 1.0], [0.0, 1.0]]])
    np.testing.assert_allclose(perceptual_error((fine, coarse))[0, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_gradient(assert_gradient):
    rng = np.random.default_rng(0)
    layers = [rng.uniform(size=(2, size, size)) for size in (8, 4, 2)]
    assert_gradient(lambda *maps: perceptual_error(maps), *layers)
