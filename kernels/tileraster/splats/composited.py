"""What compositing makes of tile lists, whichever backend does it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from tileraster.constants import DISTORTION_FAR, DISTORTION_NEAR

VARYING = 3  # z, m, m^2
# m(z) = const - DISTORTION_SCALE / z
DISTORTION_SCALE = DISTORTION_FAR * DISTORTION_NEAR / (DISTORTION_FAR - DISTORTION_NEAR)


class Composited(NamedTuple):
    """Per tile and pixel, tiles flat over (image, tile)."""

    sums: Float[Array, "t f p"]  # constant features, then z, m, m^2
    median_depth: Float[Array, "t p"]  # without gradient


class Compositor(NamedTuple):
    """How tile lists become tiles: `composite(geometry, features, bins, grid, near)`, the last feature being 1."""

    tile: int
    composite: Callable[..., Any]  # returns `Composited`; Any, as type checkers lose what a custom_vjp returns
