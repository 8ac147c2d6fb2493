"""One pixel and one surfel: alpha and depth, and their gradient written by hand. Shared by the fast backends.

The formulas are those of the golden files; `projection` explains the 13 numbers per surfel. Arrays are
[tiles, surfels, pixels]; a surfel's number is [tiles, surfels, 1].
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tileraster.constants import ALPHA_MAX, ALPHA_MIN, FILTER_INVERSE_SQUARE


class Column(NamedTuple):
    """The numbers of a surfel, in the order of `ProjectedSurfels.geometry`."""

    center_x: Float[Array, "t g 1"]  # projected centre p, pixels
    center_y: Float[Array, "t g 1"]
    j00: Float[Array, "t g 1"]
    j01: Float[Array, "t g 1"]
    j10: Float[Array, "t g 1"]
    j11: Float[Array, "t g 1"]
    g_0: Float[Array, "t g 1"]  # g(x') = g_0 + g_x x' + g_y y'
    g_x: Float[Array, "t g 1"]
    g_y: Float[Array, "t g 1"]
    filter_x: Float[Array, "t g 1"]  # centre of the low-pass filter relative to p
    filter_y: Float[Array, "t g 1"]
    depth: Float[Array, "t g 1"]  # z of the centre
    opacity: Float[Array, "t g 1"]


class SurfelPairs(NamedTuple):
    """What a pair contributes, and what its gradient needs again."""

    alpha: Float[Array, "t g p"]
    depth: Float[Array, "t g p"]  # 1 where alpha is 0
    u: Float[Array, "t g p"]  # 0 in the filter branch
    v: Float[Array, "t g p"]
    inverse_g: Float[Array, "t g p"]  # 0 in the filter branch
    on_disc: Bool[Array, "t g p"]
    falloff: Float[Array, "t g p"]  # exp(-rho / 2)


def split(geometry: Float[Array, "*g 13"]) -> Column:
    return Column(*(geometry[..., k : k + 1] for k in range(13)))


def evaluate(
    geometry: Float[Array, "t g 13"], x: Float[Array, "t 1 p"], y: Float[Array, "t 1 p"], *, near: float
) -> SurfelPairs:
    """Alpha and depth of every pair; skipped pairs have alpha 0."""
    c = split(geometry)
    dx, dy = x - c.center_x, y - c.center_y
    g = c.g_0 + c.g_x * dx + c.g_y * dy
    edge_on = g == 0
    inverse_g = 1.0 / jnp.where(edge_on, 1.0, g)
    u = (c.j11 * dx - c.j01 * dy) * inverse_g
    v = (c.j00 * dy - c.j10 * dx) * inverse_g
    rho_disc = u * u + v * v
    rho_filter = FILTER_INVERSE_SQUARE * ((dx - c.filter_x) ** 2 + (dy - c.filter_y) ** 2)
    on_disc = (rho_disc <= rho_filter) & ~edge_on
    falloff = jnp.exp(-0.5 * jnp.where(on_disc, rho_disc, rho_filter))
    depth = jnp.where(on_disc, c.g_0 * c.depth * inverse_g, c.depth)
    raw = c.opacity * falloff
    kept = (raw >= ALPHA_MIN) & (depth > near)
    return SurfelPairs(
        alpha=jnp.where(kept, jnp.minimum(raw, ALPHA_MAX), 0.0),
        depth=jnp.where(kept, depth, 1.0),
        # On a disc that is seen almost edge-on u, v and 1 / g are infinite: times zero they would give NaN.
        u=jnp.where(on_disc, u, 0.0),
        v=jnp.where(on_disc, v, 0.0),
        inverse_g=jnp.where(on_disc, inverse_g, 0.0),
        on_disc=on_disc,
        falloff=falloff,
    )


def gradient(
    geometry: Float[Array, "t g 13"],
    pairs: SurfelPairs,
    d_alpha: Float[Array, "t g p"],
    d_depth: Float[Array, "t g p"],
    origin: Float[Array, "t 2"],
    basis: Float[Array, "p 3"],
) -> Float[Array, "t g 13"]:
    """Gradient with respect to `geometry`, summed over the pixels of each tile.

    `d_alpha` and `d_depth` are the gradients of the pairs' alpha and depth; `basis` holds (1, x, y) of the pixels
    relative to the tile's `origin`, so that all sums over pixels are matrix products.
    """
    c = split(geometry)
    alive = (pairs.alpha > 0) & (pairs.alpha < ALPHA_MAX)
    d_raw = jnp.where(alive, d_alpha, 0.0)
    d_rho = -0.5 * c.opacity * pairs.falloff * d_raw
    d_rho_disc = jnp.where(pairs.on_disc, d_rho, 0.0)
    d_depth_disc = jnp.where(pairs.on_disc, d_depth, 0.0)
    d_a = 2.0 * pairs.u * d_rho_disc * pairs.inverse_g
    d_b = 2.0 * pairs.v * d_rho_disc * pairs.inverse_g
    d_inverse_depth = d_depth_disc * pairs.inverse_g
    d_g = -(pairs.u * d_a + pairs.v * d_b + pairs.depth * d_inverse_depth)

    local_x, local_y = c.center_x - origin[:, None, :1], c.center_y - origin[:, None, 1:]

    d_filter = 2.0 * FILTER_INVERSE_SQUARE * (d_rho - d_rho_disc)
    others = (d_inverse_depth, d_depth - d_depth_disc, d_raw * pairs.falloff)
    values = jnp.stack([d_a, d_b, d_g, d_filter, *others], axis=-2)
    # Sums over the pixels of each value times 1, x' and y', as one matrix product.
    one, x, y = jnp.moveaxis(jnp.einsum("tgvp,pk->tgvk", values, basis, precision="highest"), -1, 0)
    x, y = x - local_x * one, y - local_y * one
    split_values = functools.partial(jnp.split, indices_or_sections=7, axis=-1)
    a_1, b_1, g_1, filter_1, sum_inverse_depth, sum_center_depth, sum_raw = split_values(one)
    a_x, b_x, g_x, filter_x, *_ = split_values(x)
    a_y, b_y, g_y, filter_y, *_ = split_values(y)
    filter_x, filter_y = filter_x - c.filter_x * filter_1, filter_y - c.filter_y * filter_1
    columns = Column(
        center_x=c.j10 * b_1 - c.j11 * a_1 - c.g_x * g_1 - filter_x,
        center_y=c.j01 * a_1 - c.j00 * b_1 - c.g_y * g_1 - filter_y,
        j00=b_y,
        j01=-a_y,
        j10=-b_x,
        j11=a_x,
        g_0=g_1 + c.depth * sum_inverse_depth,
        g_x=g_x,
        g_y=g_y,
        filter_x=-filter_x,
        filter_y=-filter_y,
        depth=c.g_0 * sum_inverse_depth + sum_center_depth,
        opacity=sum_raw,
    )
    return jnp.concatenate(columns, axis=-1)
