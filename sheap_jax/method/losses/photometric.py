"""Photometric losses: the rendered picture against the target frame, one value per pixel.

The paper names four terms: L1, a perceptual distance, SSIM and one that nobody outside the authors knows. Ours for the
last is the L1 distance of the pictures' gradients: low-order spherical harmonics cannot follow shadows and highlights,
so that slow shading errors stay in L1 for ever, while the derivative of the picture hardly sees them and points at what
geometry can mend, the place of edges (lids, lips, nostrils).
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5  # an 11 x 11 window
SSIM_C1 = 0.01**2  # (K1 x data range)^2, Wang et al. 2004
SSIM_C2 = 0.03**2


def l1_error(rendered: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b h w"]:
    """Absolute difference per pixel, mean over the channels."""
    return jnp.mean(jnp.abs(rendered - target), axis=-1)


def ssim_map(first: Float[Array, "*b h w c"], second: Float[Array, "*b h w c"]) -> Float[Array, "*b h w"]:
    """Structural similarity per pixel in [-1, 1], mean over the channels (Wang et al. 2004, eq. 13).

    Gaussian window of 11 x 11 and sigma 1.5, population covariance, data range 1, mirrored borders: equal to
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=1)`.
    """
    mean_first, mean_second = _blur(first), _blur(second)
    # Variances of deviations from a constant are the same and lose fewer digits than E[x^2] - E[x]^2 on [0, 1].
    a, b = first - 0.5, second - 0.5
    mean_a, mean_b = mean_first - 0.5, mean_second - 0.5
    variance_first = _blur(a * a) - mean_a * mean_a
    variance_second = _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_first * mean_second + SSIM_C1) / (mean_first**2 + mean_second**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_first + variance_second + SSIM_C2)
    return jnp.mean(luminance * structure, axis=-1)


def ssim_error(rendered: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b h w"]:
    """1 - SSIM per pixel, in [0, 2]."""
    return 1.0 - ssim_map(rendered, target)


def gradient_error(rendered: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b h w"]:
    """L1 distance of the forward differences in x and y per pixel, mean over the channels.

    The last column has no difference in x and the last row none in y: they count as zero.
    """
    difference = rendered - target
    along_x = jnp.abs(jnp.diff(difference, axis=-2, append=difference[..., -1:, :]))
    along_y = jnp.abs(jnp.diff(difference, axis=-3, append=difference[..., -1:, :, :]))
    return jnp.mean(along_x + along_y, axis=-1)


def _blur(image: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Gaussian window as two banded matrix products: one form that is fast on CPU, GPU and TPU, gradients included.

    Full float32 products: the default of TPUs (bfloat16) would drown variances.
    """
    rows = jnp.asarray(_window_matrix(image.shape[-3]), image.dtype)
    columns = jnp.asarray(_window_matrix(image.shape[-2]), image.dtype)
    blurred = jnp.einsum("yh,...hwc->...ywc", rows, image, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("xw,...ywc->...yxc", columns, blurred, precision=jax.lax.Precision.HIGHEST)


@cache
def _window_matrix(size: int) -> np.ndarray:
    """[size, size] float64: row i holds the normalised window around pixel i, folded back at mirrored borders."""
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    window = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    window /= window.sum()
    position = (np.arange(size)[:, None] + offsets) % (2 * size)
    source = np.where(position < size, position, 2 * size - 1 - position)  # d c b a | a b c d | d c b a
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), window)
    return matrix
