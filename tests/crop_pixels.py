"""The way back from a crop to its picture, which only tests go."""

import numpy as np
from jaxtyping import Float

from sheap_jax.cropping import CropBox


def from_crop(points: Float[np.ndarray, "*n l 2"], box: CropBox, size: int) -> Float[np.ndarray, "*n l 2"]:
    """Pixels of the crop back to pixels of the original image: the inverse of `to_crop`, by complex numbers."""
    offset = np.asarray(points, np.float64) - size / 2
    # A quarter turn counterclockwise, with y down, is a factor of -i.
    turned = (offset[..., 0] + 1j * offset[..., 1]) * 1j ** np.asarray(box.turns)[..., None]
    scale = 2 * box.half_sides / size
    return np.stack([turned.real, turned.imag], axis=-1) * scale[..., None, :] + np.asarray(box.center)[..., None, :]
