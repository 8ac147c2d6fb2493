"""What a Pallas kernel reads of an entry, in 13 numbers, and how their gradient becomes that of the surfel.

The kernels work on one tile with scaled pixel coordinates (X, Y) = PIXEL_SCALE (x, y), and with powers of two:
alpha = 2^(log_opacity - e). Coordinates are relative to an origin: the middle of the tile on a TPU, the corner of the
image on a GPU. The scales are chosen so that no factors are left:

    e = (X - F)^2 + (Y - G)^2          filter branch, z = z_c
    e = (a^2 + b^2) / g^2              on the disc, z = 1 / g

(a, b) is the numerator of (u, v), turned by the rotation that makes b a multiple of y' alone: rho does not change, and
two multiplications per pixel are saved. Numerator and denominator are divided by det J, which makes g the inverse
depth. The distortion needs no more than that: its m is an affine function of 1 / z.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from tileraster.constants import FILTER_INVERSE_SQUARE
from tileraster.splats.surfel_pairs import Column, split

_LOG2_E = math.log2(math.e)
PIXEL_SCALE = math.sqrt(FILTER_INVERSE_SQUARE * _LOG2_E / 2)
_DISC_SCALE = math.sqrt(_LOG2_E / 2)
_NEVER = 1e12
ROW = 16


class EntryRow(NamedTuple):
    """The numbers of one entry, in the order in which they lie in memory; on a TPU in ROW places."""

    center_x: Array  # projected centre, scaled, relative to the origin
    center_y: Array
    a_x: Array  # a = a_x (X - center_x) + a_y (Y - center_y), b = b_y (Y - center_y)
    a_y: Array
    b_y: Array
    g_0: Array  # 1 / z = g = g_0 + g_x (X - center_x) + g_y (Y - center_y); g_0 = 1 / depth
    g_x: Array
    g_y: Array
    filter_x: Array
    filter_y: Array
    depth: Array
    log_opacity: Array
    reference: Array  # TPU: an inverse depth, the same for the whole tile, see `entry_pairs.Passed`. GPU: not used


class Moments(NamedTuple):
    """Sums over pixels of what `entry_pairs.Values` holds, times 1, x and y: pixels, not scaled, from the origin."""

    a: Float[Array, "*n 3"]
    b: Float[Array, "*n 3"]
    g: Float[Array, "*n 3"]
    filtered: Float[Array, "*n 3"]
    alpha: Float[Array, "*n"]
    depth: Float[Array, "*n"]
    depth_on_disc: Float[Array, "*n"]


def pack(
    geometry: Float[Array, "*n 13"], origin: Float[Array, "*#n 2"], reference: Float[Array, "*#n"]
) -> Float[Array, "*n 16"]:
    """`entry_row` as one array."""
    row = entry_row(geometry, origin, reference)
    return jnp.stack([*row, *[jnp.zeros_like(row[0])] * (ROW - len(row))], axis=-1)


def entry_row(
    geometry: Float[Array, "*n 13"], origin: Float[Array, "*#n 2"], reference: Float[Array, "*#n"]
) -> EntryRow:
    """The numbers of entries, with coordinates relative to `origin`, in pixels."""
    c = Column(*(number[..., 0] for number in split(geometry)))
    x, y = c.center_x - origin[..., 0], c.center_y - origin[..., 1]
    cos, sin = _rotation(c)
    unscale = 1.0 / PIXEL_SCALE
    # A disc seen exactly edge-on, or without size, is never hit: anything large keeps e above that of the filter.
    edge_on = c.g_0 == 0
    per_hit = _inverse(c.g_0 * c.depth)

    def numerator(value: Array) -> Array:
        return jnp.where(edge_on, _NEVER, _DISC_SCALE * unscale * per_hit * value)

    return EntryRow(
        center_x=PIXEL_SCALE * x,
        center_y=PIXEL_SCALE * y,
        a_x=numerator(cos * c.j11 - sin * c.j10),
        a_y=numerator(sin * c.j00 - cos * c.j01),
        b_y=numerator(sin * c.j01 + cos * c.j00),
        g_0=_inverse(c.depth),
        g_x=unscale * per_hit * c.g_x,
        g_y=unscale * per_hit * c.g_y,
        filter_x=PIXEL_SCALE * (x + c.filter_x),
        filter_y=PIXEL_SCALE * (y + c.filter_y),
        depth=c.depth,
        log_opacity=jnp.log2(jnp.maximum(c.opacity, 1e-30)),
        reference=jnp.broadcast_to(reference, x.shape),
    )


def _inverse(value: Array) -> Array:
    """1 / value, and 0 for 0."""
    return jnp.where(value == 0, 0.0, 1.0 / jnp.where(value == 0, 1.0, value))


class _Rotation(NamedTuple):
    cos: Float[Array, "*n"]
    sin: Float[Array, "*n"]


def _rotation(c: Column) -> _Rotation:
    """U: turns (j11, -j10), by which x' enters the numerator of (u, v), to the first axis."""
    length = jnp.sqrt(c.j11 * c.j11 + c.j10 * c.j10)
    inverse = 1.0 / jnp.where(length > 0, length, 1.0)
    return _Rotation(jnp.where(length > 0, c.j11 * inverse, 1.0), -c.j10 * inverse)


def geometry_gradient(
    moments: Moments, geometry: Float[Array, "*n 13"], origin: Float[Array, "*#n 2"]
) -> Float[Array, "*n 13"]:
    """Gradient with respect to `geometry` from the sums that the backward kernels make, relative to `origin`."""
    c = Column(*(number[..., 0] for number in split(geometry)))
    x, y = c.center_x - origin[..., 0], c.center_y - origin[..., 1]
    cos, sin = _rotation(c)

    def about(moment: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
        one = moment[..., 0]
        return one, moment[..., 1] - x * one, moment[..., 2] - y * one

    per_hit = _inverse(c.g_0 * c.depth)[..., None]
    # d e / d (U A x') = 2 _DISC_SCALE (a, b) / g^2 and d alpha / d e = -ln 2 alpha, with the values a alpha / g^2.
    scale = -1.0 / _DISC_SCALE * per_hit
    a, b = about(scale * moments.a, x, y), about(scale * moments.b, x, y)
    u = [cos * p - sin * q for p, q in zip(a, b, strict=True)]
    v = [sin * p + cos * q for p, q in zip(a, b, strict=True)]
    g_1, g_x, g_y = about(per_hit * moments.g, x, y)
    _, filter_x, filter_y = about(FILTER_INVERSE_SQUARE * moments.filtered, x + c.filter_x, y + c.filter_y)
    columns = Column(
        center_x=c.j10 * v[0] - c.j11 * u[0] - c.g_x * g_1 + filter_x,
        center_y=c.j01 * u[0] - c.j00 * v[0] - c.g_y * g_1 + filter_y,
        j00=v[2],
        j01=-u[2],
        j10=-v[1],
        j11=u[1],
        g_0=g_1 + moments.depth_on_disc * _inverse(c.g_0),
        g_x=g_x,
        g_y=g_y,
        filter_x=filter_x,
        filter_y=filter_y,
        depth=moments.depth * _inverse(c.depth),
        opacity=moments.alpha * _inverse(c.opacity),
    )
    return jnp.stack(columns, axis=-1)
