"""One pixel and one entry as the Pallas kernels compute them: a plane of pixels, the entry's numbers as scalars.

`entry_rows` explains the numbers. TPU and GPU kernels share these functions; they differ in how they keep the planes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tileraster.constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_STOP
from tileraster.pallas.entry_rows import EntryRow

Plane = Float[Array, "*p"]


class EntryPair(NamedTuple):
    """What an entry does to each pixel, and what its gradient needs again."""

    a: Plane
    b: Plane
    exponent: Plane  # e; alpha = 2^(log_opacity - e)
    reciprocal_g: Plane  # 0 in the filter branch
    on_disc: Bool[Array, "*p"]
    depth: Plane
    inverse_depth: Plane
    kept: Bool[Array, "*p"]
    raw: Plane  # before the clamp
    alpha: Plane


class Passed(NamedTuple):
    """What is known of a pixel after some entries of its list. m is 1 / z minus the tile's reference."""

    transmittance: Plane
    alpha: Plane
    depth: Plane
    m: Plane
    m2: Plane
    median_depth: Plane


class Cotangents(NamedTuple):
    """Cotangents of the sums that vary over the pixels; `total` is the sum of all cotangents times their sums."""

    depth: Plane
    m: Plane
    m2: Plane
    total: Plane


class Values(NamedTuple):
    """Gradients of one entry at each pixel, up to the factors that `entry_rows.geometry_gradient` puts in."""

    a: Plane
    b: Plane
    g: Plane
    filtered: Plane
    alpha: Plane
    depth: Plane
    depth_on_disc: Plane


Reciprocal = Callable[[Plane], Plane]


def evaluate(row: EntryRow, x: Plane, y: Plane, *, near: float, reciprocal: Reciprocal) -> EntryPair:
    """Alpha and depth of every pixel; skipped pixels have alpha 0. `x`, `y` are scaled, from the origin of the row."""
    dx, dy = x - row.center_x, y - row.center_y
    a, b = row.a_x * dx + row.a_y * dy, row.b_y * dy
    g = row.g_0 + (row.g_x * dx + row.g_y * dy)
    reciprocal_g = reciprocal(g)
    e_disc = (a * a + b * b) * (reciprocal_g * reciprocal_g)
    filter_dx, filter_dy = x - row.filter_x, y - row.filter_y
    e_filter = filter_dx * filter_dx + filter_dy * filter_dy
    on_disc = e_disc <= e_filter  # false for the infinities and NaNs of a disc that is seen edge-on
    exponent = jnp.where(on_disc, e_disc, e_filter)
    raw = jnp.exp2(row.log_opacity - exponent)
    depth = jnp.where(on_disc, reciprocal_g, row.depth)
    kept = (raw >= ALPHA_MIN) & (depth > near)
    return EntryPair(
        a=a,
        b=b,
        exponent=exponent,
        reciprocal_g=jnp.where(on_disc, reciprocal_g, 0.0),
        on_disc=on_disc,
        depth=depth,
        inverse_depth=jnp.where(on_disc, g, row.g_0),
        kept=kept,
        raw=raw,
        alpha=jnp.where(kept, jnp.minimum(raw, ALPHA_MAX), 0.0),
    )


class Absorbed(NamedTuple):
    """The light that an entry takes, and what it leaves."""

    weight: Plane
    behind: Plane  # transmittance; once it has fallen to TRANSMITTANCE_STOP nothing is added any more


def absorb(pair: EntryPair, transmittance: Plane) -> Absorbed:
    taken = pair.alpha * transmittance
    behind = transmittance - taken
    return Absorbed(jnp.where(behind > TRANSMITTANCE_STOP, taken, 0.0), behind)


def nothing_passed(zero: Plane) -> Passed:
    return Passed(zero + 1.0, zero, zero, zero, zero, zero)


def composite_one(pair: EntryPair, before: Passed, reference: Array) -> tuple[Passed, Plane]:
    """The sums after one more entry, and its weight."""
    weight, behind = absorb(pair, before.transmittance)
    m = pair.inverse_depth - reference
    weighted_m = weight * m
    passed = Passed(
        transmittance=behind,
        alpha=before.alpha + weight,
        depth=before.depth + weight * pair.depth,
        m=before.m + weighted_m,
        m2=before.m2 + weighted_m * m,
        # More than half the light: far from where compositing stops, so that the entry contributes.
        median_depth=jnp.where(pair.kept & (before.transmittance > 0.5), pair.depth, before.median_depth),
    )
    return passed, weight


class OneGradient(NamedTuple):
    values: Values
    weight: Plane
    transmittance: Plane  # behind the entry
    up_to: Plane  # sum of w q


def gradient_one(
    pair: EntryPair,
    reference: Array,
    transmittance: Plane,
    up_to: Plane,
    constant: Plane,
    cotangents: Cotangents,
    *,
    reciprocal: Reciprocal,
) -> OneGradient:
    """Gradient of one entry, front to back as in `splats.xla`; `constant` is its features times their cotangents."""
    weight, behind = absorb(pair, transmittance)
    m = pair.inverse_depth - reference
    half = cotangents.m + cotangents.m2 * m
    weighted_q = weight * (constant + pair.depth * cotangents.depth + m * half)
    up_to = up_to + weighted_q
    # alpha d_alpha with d_alpha = T q - (total - up_to) / (1 - alpha)
    others = pair.alpha * (cotangents.total - up_to) * reciprocal(1.0 - pair.alpha)
    alive = (weight > 0) & (pair.raw < ALPHA_MAX)
    alpha = jnp.where(alive, weighted_q - others, 0.0)
    on_disc = jnp.where(pair.on_disc, alpha, 0.0)
    k = on_disc * (pair.reciprocal_g * pair.reciprocal_g)
    d_m = weight * (half + cotangents.m2 * m)
    # With respect to log z: d z = z, d m = -1 / z.
    depth = weight * cotangents.depth * pair.depth - d_m * pair.inverse_depth
    depth_on_disc = jnp.where(pair.on_disc, depth, 0.0)
    values = Values(
        a=k * pair.a,
        b=k * pair.b,
        g=pair.reciprocal_g * (2.0 * math.log(2.0) * on_disc * pair.exponent - depth_on_disc),
        filtered=alpha - on_disc,
        alpha=alpha,
        depth=depth,
        depth_on_disc=depth_on_disc,
    )
    return OneGradient(values, weight, behind, up_to)
