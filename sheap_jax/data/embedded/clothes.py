"""Neck opening, shoulders and their clothes: a mesh of its own that follows the head only partly."""

import cv2
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.data.embedded.chart import lattice_noise
from sheap_jax.data.embedded.traits import srgb_to_linear

AROUND = 48
# From collar to chest: half width, half depth, height relative to the neck's base, metres; last column: depth shift.
_RINGS = np.array(
    [
        [0.058, 0.060, 0.018, 0.000],
        [0.066, 0.068, 0.024, 0.000],
        [0.072, 0.073, 0.020, 0.002],
        [0.080, 0.078, 0.010, 0.004],
        [0.105, 0.086, -0.004, 0.006],
        [0.150, 0.098, -0.026, 0.006],
        [0.195, 0.108, -0.055, 0.004],
        [0.218, 0.116, -0.095, 0.004],
        [0.226, 0.124, -0.150, 0.010],
        [0.226, 0.128, -0.260, 0.010],
    ]
)
TEXTURE_SIZE = 128


def shoulders(rng: np.random.Generator) -> Float[np.ndarray, "v 3"]:
    """Vertices of the garment around a neck whose base is the origin."""
    rings = _RINGS * np.array([1, 1, 1, 1]) + rng.normal(0, 0.002, _RINGS.shape)
    rings[3:, 2] *= rng.uniform(0.75, 1.25)
    rings[:3, 2] += rng.uniform(-0.014, 0.016)
    angle = np.linspace(-np.pi, np.pi, AROUND + 1)
    dip = 0.5 + 0.5 * np.cos(angle)  # the collar is lower in front
    low = np.array([0.028, 0.03, 0.03, 0.028, 0.02, 0.008, 0, 0, 0, 0]) * rng.uniform(0.6, 1.7)
    x = rings[:, :1] * np.sin(angle)
    y = rings[:, 2:3] - low[:, None] * dip
    z = rings[:, 1:2] * np.cos(angle) + rings[:, 3:4] + 0.02 * dip * np.linspace(0, 1, len(rings))[:, None]
    folds = 0.0025 * lattice_noise(rng, x.shape, (4, 16))
    folds[:, -1] = folds[:, 0]
    return np.stack([x * (1 + folds * 8), y + folds, z + folds], axis=-1).reshape(-1, 3).astype(np.float32)


def shoulder_faces() -> Int[np.ndarray, "f 3"]:
    """Triangles of the garment, outward."""
    index = np.arange(len(_RINGS) * (AROUND + 1)).reshape(len(_RINGS), AROUND + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def shoulder_coordinates() -> Float[np.ndarray, "v 2"]:
    """Texture coordinates in [0, 1]: round the neck (0.5 is the front), and from collar to chest."""
    down, around = np.meshgrid(np.linspace(0, 1, len(_RINGS)), np.linspace(0, 1, AROUND + 1), indexing="ij")
    return np.stack([around, down], axis=-1).reshape(-1, 2).astype(np.float32)


def paint_cloth(skin: Float[np.ndarray, "3"], rng: np.random.Generator) -> Float[np.ndarray, "s s 3"]:
    """Linear RGB of a garment: plain, striped, checked, or a jacket over a shirt; some leave the throat open."""
    size = TEXTURE_SIZE
    around, down = np.meshgrid(np.linspace(-1, 1, size), np.linspace(0, 1, size))
    main, second = _fabric_color(rng), _fabric_color(rng)
    color = np.broadcast_to(main, (size, size, 3)).copy()
    kind = rng.choice(["plain", "stripes", "checks", "jacket"], p=[0.5, 0.14, 0.12, 0.24])
    if kind == "stripes":
        color[np.sin(down * rng.uniform(60, 120)) > 0.2] = second
    elif kind == "checks":
        mix = 0.25 * ((np.sin(down * 70) > 0).astype(np.float32) + (np.sin(around * 90) > 0))[..., None]
        color = color * (1 - mix) + second * mix
    elif kind == "jacket":
        color[np.abs(around) < 0.05 + 0.12 * (1 - down)] = second
    collar = down < rng.uniform(0.2, 0.34)
    color[collar] *= rng.uniform(0.75, 1.1)
    if rng.random() < 0.45:
        open_throat = np.abs(around) < rng.uniform(0.1, 0.22) * (1 - down / rng.uniform(0.4, 0.7))
        color[open_throat] = skin * 0.85
    weave = 1 + 0.06 * rng.standard_normal((size, size, 1)).astype(np.float32) + 0.08 * lattice_noise(
        rng, (size, size), (10, 24))[..., None]  # fmt: skip
    return cv2.GaussianBlur(np.clip(color * weave, 0.005, 0.9).astype(np.float32), (0, 0), 0.6)


def _fabric_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Clothes are mostly dark or muted, sometimes white or vivid."""
    hue = rng.random()
    saturation = rng.beta(1.2, 3.0)
    value = rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.75, 0.95)], p=[0.5, 0.32, 0.18])
    hsv = np.array([[[hue * 360, saturation, value]]], np.float32)
    return srgb_to_linear(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
