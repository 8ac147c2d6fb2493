"""Pictures that already show a head as in training: the largest square about the centre is all that is cut."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.data.cropping import CropBox, crop_image
from sheap_jax.evaluation.photographs import read_photograph


def read_crop(path: str | Path, size: int) -> Float[np.ndarray, "size size 3"]:
    """The network's input from a picture file. Raises FileNotFoundError, or ValueError if it is no picture."""
    return square_crop(read_photograph(path), size)


def square_crop(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float[np.ndarray, "size size 3"]:
    """The largest square about the centre at `size` pixels, in [0, 1]."""
    height, width = image.shape[:2]
    box = CropBox(np.array([width / 2, height / 2]), np.array(min(height, width) / 2))
    return crop_image(image, box, size).astype(np.float32) / 255.0
