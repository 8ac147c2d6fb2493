"""An eyeball as a small mesh: rings of points around the line of sight."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.morphable.embedded.anatomy import EYE_RADIUS


class Ball(NamedTuple):
    points: Float[np.ndarray, "n 3"]  # millimetres, about the centre
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "u 2"]  # in the unit disc, the front pole at its middle
    uv_faces: Int[np.ndarray, "f 3"]


def eyeball(rings: int, around: int) -> Ball:
    """A ball with a slight cornea around +z, its rings denser in front."""
    polar = np.pi * (np.arange(1, rings) / rings) ** 1.25
    turn = 2 * np.pi * np.arange(around) / around
    theta, phi = np.repeat(polar, around), np.tile(turn, rings - 1)
    theta = np.concatenate([theta, [0.0, np.pi]])
    phi = np.concatenate([phi, [0.0, 0.0]])
    radius = EYE_RADIUS + 0.4 * np.exp(-((theta / 0.42) ** 4))
    sphere = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    uv = (theta / np.pi)[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    front, back = len(theta) - 2, len(theta) - 1
    ring = [np.arange(around) + k * around for k in range(rings - 1)]
    fan = np.stack([ring[0], np.roll(ring[0], -1), np.full(around, front)], axis=1)
    end = np.stack([np.roll(ring[-1], -1), ring[-1], np.full(around, back)], axis=1)
    faces = np.concatenate([fan, *[join_loops(ring[k + 1], ring[k]) for k in range(rings - 2)], end])
    # Every triangle at the back pole has a uv point of its own on the disc's rim.
    half = np.pi / around
    uv = np.concatenate([uv, np.stack([np.cos(turn + half), np.sin(turn + half)], axis=1)])
    uv_faces = faces.copy()
    uv_faces[-around:, 2] = len(theta) + np.arange(around)
    return Ball(radius[:, None] * sphere, faces, uv, uv_faces)


def join_loops(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Triangles between two loops of equal length; `inner` continues the surface to the left of `outer`."""
    after_outer, after_inner = np.roll(outer, -1), np.roll(inner, -1)
    return np.concatenate(
        [np.stack([outer, after_outer, inner], axis=1), np.stack([after_outer, after_inner, inner], axis=1)]
    )
