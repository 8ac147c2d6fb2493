"""Bad cameras: blur, few pixels, odd tones, noise and JPEG, so that a network knows more than clean pictures.

One camera takes both frames of a pair: what they share stays shared. Pixels change, landmarks do not.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class BadCamera(NamedTuple):
    """What one camera does to every picture."""

    gamma: float  # exponent of all values
    contrast: float  # about the picture's mean
    saturation: float  # 0: grey
    tint: Float[np.ndarray, "3"]  # gain of each channel
    resolution: float  # share of the pixels per axis that are left
    blur: float  # standard deviation in shares of the image
    noise: float  # standard deviation, of 1
    quality: int  # of the JPEG


def draw_camera(generator: np.random.Generator) -> BadCamera:
    """A random camera: each fault is present in about half of them."""
    present = generator.random(4) < 0.5
    return BadCamera(
        gamma=float(np.exp(generator.normal(0.0, 0.3))),
        contrast=float(np.exp(generator.normal(0.0, 0.25))),
        saturation=float(0.0 if generator.random() < 0.1 else np.exp(generator.normal(0.0, 0.4))),
        tint=np.exp(generator.normal(0.0, 0.12, 3)).astype(np.float32),
        resolution=float(generator.uniform(0.3, 1.0)) if present[0] else 1.0,
        blur=float(generator.uniform(0.002, 0.015)) if present[1] else 0.0,
        noise=float(generator.uniform(0.01, 0.06)) if present[2] else 0.0,
        quality=int(generator.integers(15, 90)) if present[3] else 100,
    )


def degrade(image: UInt8[np.ndarray, "h w 3"], camera: BadCamera, generator: np.random.Generator) -> None:
    """Take the picture again with a bad camera, in place. `generator` draws the noise."""
    height, width = image.shape[:2]
    if camera.resolution < 1.0:
        small = max(8, round(width * camera.resolution)), max(8, round(height * camera.resolution))
        image[...] = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
    if camera.blur > 0.0:
        image[...] = cv2.GaussianBlur(image, (0, 0), camera.blur * width)
    image[...] = _tones(image, camera, generator)
    if camera.quality < 100:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, camera.quality])[1]
        image[...] = cv2.imdecode(coded, cv2.IMREAD_COLOR)


def _tones(
    image: UInt8[np.ndarray, "h w 3"], camera: BadCamera, generator: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    value = (image.astype(np.float32) / 255.0) ** camera.gamma
    grey = (value @ LUMA)[..., None]
    value = (grey + camera.saturation * (value - grey)) * camera.tint
    mean = value.mean()
    value = mean + camera.contrast * (value - mean)
    if camera.noise > 0.0:
        value += camera.noise * generator.standard_normal(value.shape, dtype=np.float32)
    return (np.clip(value, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
