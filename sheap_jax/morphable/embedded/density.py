"""How densely the embedded head is sampled at its levels of detail."""

from typing import NamedTuple

import numpy as np

from sheap_jax.morphable.embedded.anatomy import Points


class Density(NamedTuple):
    """Sampling of one level of detail, lengths in millimetres."""

    face: float  # spacing of points on the face; elsewhere larger
    lid_points: int
    lid_loops: tuple[float, ...]  # distances of the loops around the lid margin
    mouth_points: int  # a multiple of four
    mouth_loops: tuple[float, ...]
    ear_points: int
    ear_loops: tuple[float, ...]  # radii in ear coordinates
    neck_points: int
    eyeball: tuple[int, int]  # rings from front to back, points per ring


DENSITIES = {
    "coarse": Density(
        8.8, 14, (3.0, 7.0), 24, (2.8, 6.5), 10, (0.2, 0.44, 0.62, 0.76, 1.0), 20, (6, 8)
    ),
    "fine": Density(
        3.7, 36, (1.3, 2.8, 4.6, 7.0), 48, (0.45, 1.3, 2.6, 4.4, 6.6), 24,
        (0.1, 0.2, 0.3, 0.36, 0.42, 0.5, 0.58, 0.64, 0.7, 0.76, 0.83, 0.91, 1.0), 48, (14, 24),
    ),
}  # fmt: skip


def spacing(points: Points, density: Density) -> np.ndarray:
    """Wanted distance between neighbouring points: fine around nose, eyes and lips, coarse on skull and neck."""
    center = np.array([0.0, -38.0, 25.0])
    distance = np.linalg.norm((points - center) * [1.0, 0.85, 0.9], axis=1)
    grow = np.clip((distance - 45.0) / 110.0, 0.0, 1.0)
    nose = np.exp(-(((points - [0, -36, 38]) / [16, 14, 20]) ** 2).sum(axis=1))
    return density.face * (1.0 + 1.3 * grow - 0.35 * nose)
