"""How like two pictures are: PSNR and SSIM, within a mask or over the whole frame."""

import jax
import numpy as np
from jaxtyping import Bool, Float

from sheap_jax.method.losses.photometric import ssim_map

# Of identical pictures: the rounding error of 8-bit images, so that a mean over images stays finite.
MAX_PSNR = 20 * np.log10(2 * 255)


def psnr(
    first: Float[np.ndarray, "n h w 3"],
    second: Float[np.ndarray, "n h w 3"],
    mask: Bool[np.ndarray, "n h w"] | None = None,
) -> Float[np.ndarray, "n"]:
    """Peak signal-to-noise ratio in dB of each image, 10 log10(1 / mean squared error), at most that of rounding."""
    error = _mean_within((np.asarray(first, np.float64) - second) ** 2, mask)
    return np.minimum(-10 * np.log10(np.maximum(error, 1e-20)), MAX_PSNR)


def ssim(
    first: Float[np.ndarray, "n h w 3"],
    second: Float[np.ndarray, "n h w 3"],
    mask: Bool[np.ndarray, "n h w"] | None = None,
) -> Float[np.ndarray, "n"]:
    """Structural similarity of each image (11 x 11 Gaussian window), mean of the map within the mask."""
    values = np.asarray(_ssim_map(np.asarray(first, np.float32), np.asarray(second, np.float32)), np.float64)
    return _mean_within(values[..., None], mask)


_ssim_map = jax.jit(ssim_map)


def hull_mask(points: Float[np.ndarray, "l 2"], *, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Pixels whose centres lie in the convex hull of the points (pixels, centre of the first at 0.5)."""
    from scipy.spatial import ConvexHull

    halfplanes = ConvexHull(np.asarray(points, np.float64)).equations  # a x + b y + c <= 0 inside
    y, x = np.mgrid[:height, :width] + 0.5
    return np.all(
        halfplanes[:, 0, None, None] * x + halfplanes[:, 1, None, None] * y + halfplanes[:, 2, None, None] <= 0, axis=0
    )


def _mean_within(
    values: Float[np.ndarray, "n h w c"], mask: Bool[np.ndarray, "n h w"] | None
) -> Float[np.ndarray, "n"]:
    if mask is None:
        return values.mean(axis=(1, 2, 3))
    weights = np.asarray(mask, np.float64)[..., None]
    count = weights.sum(axis=(1, 2, 3)) * values.shape[-1]
    if not (count > 0).all():
        raise ValueError(f"image {int(np.argmin(count))} has an empty mask: nothing to compare")
    return (values * weights).sum(axis=(1, 2, 3)) / count
