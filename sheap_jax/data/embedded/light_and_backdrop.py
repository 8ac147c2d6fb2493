"""The light that falls on a clip and the picture behind the head, drawn at random."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from sheap_jax.data.embedded.chart import lattice_noise
from sheap_jax.data.embedded.traits import srgb_to_linear
from sheap_jax.data.embedded.variety import Variety

BACKDROP_SIZE = 96


class DistantLights(NamedTuple):
    """Key, fill, rim and sky (a very broad light) in world space.

    Colours are irradiances on a surface that faces the light.
    """

    directions: Float[np.ndarray, "k 3"]  # towards the light
    colors: Float[np.ndarray, "k 3"]
    ambient: Float[np.ndarray, "3"]


def draw_lights(rng: np.random.Generator, variety: Variety) -> DistantLights:
    """Portrait light: a key from the front half, a weaker fill from the other side, sometimes a rim from behind."""
    azimuth = rng.normal(0, variety.key_spread)
    elevation = rng.uniform(0.1, 0.95)
    warmth = rng.normal(0, variety.warmth_spread)
    directions = np.stack(
        [
            _direction(azimuth, elevation),
            _direction(-np.sign(azimuth) * rng.uniform(0.4, 1.3), rng.uniform(-0.1, 0.5)),
            _direction(np.sign(rng.normal()) * rng.uniform(1.9, 2.7), rng.uniform(0.1, 0.8)),
            np.array([0.0, 1.0, 0.0]),
        ]
    )
    contrast = rng.uniform(0.25, 1.0)
    strengths = np.array(
        [
            0.45 + 0.5 * contrast,
            rng.uniform(0.1, 0.45) * (1.3 - contrast),
            rng.uniform(0.1, 0.5) * (rng.random() < 0.5),
            rng.uniform(0.05, 0.3),
        ]
    )
    tints = np.stack([_temperature(warmth), _temperature(-0.6 * warmth + rng.normal(0, 0.4)),
                      _temperature(rng.normal(0, 1.0)), _temperature(-0.5)])  # fmt: skip
    ambient = rng.uniform(0.1, 0.34) * (1.35 - 0.8 * contrast) * _temperature(rng.normal(0, 0.4))
    exposure = np.exp(rng.normal(0.16, variety.exposure_spread))
    return DistantLights(
        directions.astype(np.float32),
        (exposure * strengths[:, None] * tints).astype(np.float32),
        (exposure * ambient).astype(np.float32),
    )


def _direction(azimuth: float, elevation: float) -> Float[np.ndarray, "3"]:
    return np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])


def _temperature(warmth: float) -> Float[np.ndarray, "3"]:
    """Tint of a light: positive is warm."""
    return np.exp(0.12 * warmth * np.array([1.0, 0.1, -1.1]))


def paint_backdrop(rng: np.random.Generator, variety: Variety) -> Float[np.ndarray, "s s 3"]:
    """Linear RGB: an out-of-focus room, a wall, or blurred lights."""
    size = BACKDROP_SIZE
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    slope = rng.normal(0, 0.7, 2)
    ramp = np.clip(0.5 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5), 0, 1)[..., None]
    first, second = _wall_color(rng), _wall_color(rng)
    if rng.random() < 0.6:
        second = first * rng.uniform(0.35, 0.8)
    image = first + ramp * (second - first)
    if rng.random() < 0.65:
        for _ in range(int(rng.integers(3, variety.most_shapes))):
            _add_shape(image, rng)
    image *= 1 + 0.10 * lattice_noise(rng, (size, size), (5, 5))[..., None]
    blur = rng.uniform(*variety.backdrop_blur)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), blur)
    if rng.random() < 0.25:
        _add_bokeh(image, rng)
    return np.clip(image, 0.003, 1.2).astype(np.float32)


def _wall_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    hsv = np.array([[[rng.random() * 360, rng.beta(1.2, 5.0), rng.uniform(0.12, 0.9)]]], np.float32)
    return srgb_to_linear(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])


def _add_shape(image: np.ndarray, rng: np.random.Generator) -> None:
    """Furniture, windows, plants: from afar they are boxes and blobs."""
    size = image.shape[0]
    color = _wall_color(rng) * rng.choice([0.5, 1.0, 1.5])
    corner = rng.uniform(-0.1, 1.0, 2) * size
    extent = rng.uniform(0.08, 0.5, 2) * size
    if rng.random() < 0.7:
        low, high = np.maximum(corner, 0).astype(int), np.maximum(corner + extent, 0).astype(int)
        image[low[1] : high[1], low[0] : high[0]] = color
    else:
        center = (int(corner[0]), int(corner[1]))
        axes = (int(extent[0] / 2) + 1, int(extent[1] / 2) + 1)
        canvas = np.zeros((size, size), np.uint8)
        cv2.ellipse(canvas, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        image[canvas > 0] = color


def _add_bokeh(image: np.ndarray, rng: np.random.Generator) -> None:
    size = image.shape[0]
    canvas = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(4, 14))):
        where = (int(rng.integers(0, size)), int(rng.integers(0, size)))
        cv2.circle(canvas, where, int(rng.integers(3, 9)), float(rng.uniform(0.2, 0.8)), -1, cv2.LINE_AA)
    image += cv2.GaussianBlur(canvas, (0, 0), 1.4)[..., None] * _temperature(rng.normal(1, 1))
