import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from sheap_jax.method.losses.photometric import SSIM_RADIUS, gradient_error, l1_error, ssim_error, ssim_map


def _pictures(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-3], : shape[-2]]
    waves = 0.5 + 0.3 * np.sin(0.4 * x + 0.2 * y)[..., None]
    first = np.clip(waves + 0.2 * rng.normal(size=shape), 0, 1)
    return first, np.clip(0.8 * first + 0.1 * rng.normal(size=shape), 0, 1)


def test_l1_is_the_mean_over_channels():
    rendered = jnp.zeros((1, 2, 2, 3)).at[0, 1, 0].set(jnp.array([0.3, -0.6, 0.0]))
    error = np.asarray(l1_error(rendered, jnp.zeros_like(rendered)))
    np.testing.assert_allclose(error[0], [[0, 0], [0.3, 0]], rtol=1e-6)


@pytest.mark.parametrize("size", [(23, 31), (12, 11)])
def test_ssim_equals_scikit_image(size, x64):
    first, second = _pictures(1, 2, *size, 3)
    ours = np.asarray(ssim_map(jnp.asarray(first), jnp.asarray(second)))
    inside = np.s_[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    for index in range(2):
        mean, full = structural_similarity(
            first[index], second[index], gaussian_weights=True, use_sample_covariance=False, data_range=1.0,
            channel_axis=-1, full=True,
        )  # fmt: skip
        np.testing.assert_allclose(ours[index], full.mean(axis=-1), atol=1e-12)
        np.testing.assert_allclose(ours[index][inside].mean(), mean, atol=1e-12)


def test_ssim_in_float32_keeps_four_digits_on_flat_bright_pictures():
    rng = np.random.default_rng(2)
    first = 0.95 + 0.002 * rng.normal(size=(24, 24, 3))
    second = 0.95 + 0.002 * rng.normal(size=(24, 24, 3))
    _, full = structural_similarity(
        first, second, gaussian_weights=True, use_sample_covariance=False, data_range=1.0, channel_axis=-1, full=True
    )
    ours = ssim_map(jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32))
    np.testing.assert_allclose(ours, full.mean(axis=-1), atol=1e-4)


def test_ssim_error_of_equal_pictures_is_zero_and_of_inverted_ones_large():
    picture = jnp.asarray(_pictures(3, 16, 16, 3)[0], jnp.float32)
    assert float(jnp.abs(ssim_error(picture, picture)).max()) < 1e-5
    assert float(ssim_error(picture, 1 - picture).mean()) > 0.5


def test_gradient_error_ignores_constant_shading_and_sees_an_edge():
    picture = jnp.asarray(_pictures(4, 9, 8, 3)[0], jnp.float32)
    assert float(gradient_error(picture + 0.2, picture).max()) < 1e-6
    edge = jnp.zeros((4, 6, 1)).at[:, 3:].set(0.5)
    error = np.asarray(gradient_error(edge, jnp.zeros_like(edge)))
    expected = np.zeros((4, 6))
    expected[:, 2] = 0.5
    np.testing.assert_allclose(error, expected)


@pytest.mark.parametrize("loss", [l1_error, ssim_error, gradient_error])
def test_gradient(loss, assert_gradient):
    rng = np.random.default_rng(5)  # not clipped: equal pixels would put the absolute values on their kinks
    first, second = rng.uniform(size=(2, 2, 12, 13, 3))
    assert_gradient(lambda rendered: loss(rendered, jnp.asarray(second)), first)
