"""`splats.xla.composite` with the work on pixels done by Pallas kernels: what all of them share.

A backend's forward function makes the sums of every tile. Its backward function makes one row of gradients per entry,
and adds up those of a primitive. No two kernels add to the same number, so gradients are the same every time.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tileraster.splats.composited import DISTORTION_SCALE, VARYING, Composited
from tileraster.tiling.binning import Bins, TileGrid

_M_SCALE = -DISTORTION_SCALE  # the kernels' m is 1 / z minus a constant


class TileSums(NamedTuple):
    """What a forward function returns. Pixels row by row."""

    features: Float[Array, "t f p"]
    alpha: Float[Array, "t p"]
    depth: Float[Array, "t p"]
    m: Float[Array, "t p"]
    m2: Float[Array, "t p"]
    median_depth: Float[Array, "t p"]


class TileCotangents(NamedTuple):
    """What a backward function gets last. `total` is the sum of all sums times their cotangents."""

    features: Float[Array, "t f p"]
    depth: Float[Array, "t p"]
    m: Float[Array, "t p"]
    m2: Float[Array, "t p"]
    total: Float[Array, "t p"]


class Gradients(NamedTuple):
    """What a backward function returns."""

    geometry: Float[Array, "r 13"]
    features: Float[Array, "r f"]


class Primitives(NamedTuple):
    """What is composited, and where: what both functions get first."""

    geometry: Float[Array, "r 13"]
    features: Float[Array, "r f"]
    bins: Bins


class Kernels(NamedTuple):
    """A backend: `forward(primitives, grid=, near=)` and `backward(primitives, cotangents, grid=, near=)`."""

    tile: int
    forward: Callable[..., TileSums]
    backward: Callable[..., Gradients]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def composite(
    geometry: Float[Array, "r 13"],
    features: Float[Array, "r f"],
    bins: Bins,
    grid: TileGrid,
    near: float,
    kernels: Kernels,
) -> Composited:
    """As `splats.xla.composite`. The last feature must be 1: its sum is alpha, which the kernels keep more exactly."""
    return _forward(geometry, features, bins, grid, near, kernels)[0]


def _forward(
    geometry: Array, features: Array, bins: Bins, grid: TileGrid, near: float, kernels: Kernels
) -> tuple[Composited, tuple]:
    primitives = Primitives(geometry, features, bins)
    tiles = kernels.forward(primitives, grid=grid, near=near)
    varying = [tiles.alpha, tiles.depth, _M_SCALE * tiles.m, _M_SCALE**2 * tiles.m2]
    sums = jnp.concatenate([tiles.features[:, :-1], jnp.stack(varying, axis=1)], axis=1)
    return Composited(sums, tiles.median_depth), (primitives, sums)


def _backward(grid: TileGrid, near: float, kernels: Kernels, saved: tuple, cotangent: Composited) -> tuple:
    primitives, sums = saved
    of_sums = cotangent.sums
    cotangents = TileCotangents(
        features=of_sums[:, :-VARYING],
        depth=of_sums[:, -3],
        m=_M_SCALE * of_sums[:, -2],
        m2=_M_SCALE**2 * of_sums[:, -1],
        total=jnp.sum(sums * of_sums, axis=1),
    )
    gradients = kernels.backward(primitives, cotangents, grid=grid, near=near)
    return *gradients, None


composite.defvjp(_forward, _backward)
