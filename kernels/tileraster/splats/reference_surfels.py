"""The ground truth: every primitive at every pixel in plain jax.numpy, gradients by autodiff.

Slow on purpose. It follows the definition of the image literally and shares no formula with the fast
implementations, so that the two check each other. Pixels go in chunks whose intermediates are recomputed in the
backward pass: memory stays at chunk x primitives.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tileraster.camera import rotation_matrix
from tileraster.constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    DISTORTION_FAR,
    DISTORTION_NEAR,
    FILTER_INVERSE_SQUARE,
    TRANSMITTANCE_STOP,
)
from tileraster.types import SplatInputs, SurfelImage

PIXELS_PER_CHUNK = 128
T = TypeVar("T")


class _Surfels(NamedTuple):
    """Surfels of one image in front-to-back order."""

    transform: Float[Array, "n 3 3"]  # M: (u, v, 1) on the tangent plane -> homogeneous pixel
    center: Float[Array, "n 2"]  # of the low-pass filter
    depth: Float[Array, "n"]
    normal: Float[Array, "n 3"]
    opacity: Float[Array, "n"]
    color: Float[Array, "n c"]


class _Sums(NamedTuple):
    color: Float[Array, "p c"]
    alpha: Float[Array, "p"]
    depth: Float[Array, "p"]
    median_depth: Float[Array, "p"]
    normal: Float[Array, "p 3"]
    distortion: Float[Array, "p"]


def render_surfels_reference(inputs: SplatInputs, *, width: int, height: int, near: float) -> SurfelImage:
    """`rasterize_surfels` for a flat batch."""

    def one_image(image: SplatInputs) -> _Sums:
        surfels = _project(image, near=near)
        return pixel_chunks(
            lambda pixels: _composite(surfels, image.background, pixels, near=near),
            width=width,
            height=height,
            dtype=image.means.dtype,
        )

    sums = jax.lax.map(one_image, inputs)
    overflow = jnp.zeros((inputs.means.shape[0],), jnp.int32)
    return SurfelImage(**sums._asdict(), overflow=overflow)


def pixel_chunks(render: Callable[[Float[Array, "p 2"]], T], *, width: int, height: int, dtype: jnp.dtype) -> T:
    """Run `render` on all pixel centres, a chunk at a time, and put its arrays [p, ...] together as [h, w, ...]."""
    y, x = jnp.mgrid[:height, :width]
    pixels = jnp.stack([x, y], axis=-1).reshape(-1, 2).astype(dtype) + 0.5
    padded = -len(pixels) % PIXELS_PER_CHUNK
    chunks = jnp.pad(pixels, ((0, padded), (0, 0))).reshape(-1, PIXELS_PER_CHUNK, 2)

    def join(value: Array) -> Array:
        return value.reshape(-1, *value.shape[2:])[: width * height].reshape(height, width, *value.shape[2:])

    return jax.tree.map(join, jax.lax.map(jax.checkpoint(render), chunks))


def _project(inputs: SplatInputs, *, near: float) -> _Surfels:
    with jax.default_matmul_precision("highest"):
        rotation = inputs.viewmats[:3, :3]
        axes = rotation @ rotation_matrix(inputs.quats)
        center = inputs.means @ rotation.T + inputs.viewmats[:3, 3]
        tangents = axes[:, :, :2] * inputs.scales[:, None, :]
        intrinsics = _without_skew(inputs.intrinsics)
        transform = intrinsics @ jnp.concatenate([tangents, center[:, :, None]], axis=-1)
    # The probe moves the whole surfel on the screen: x -> x + probe.
    transform = transform.at[:, :2].add(inputs.screen_probe[:, :, None] * transform[:, 2:])
    w = transform[:, 2]
    # A 1-sigma disc that reaches the camera plane has no projected ellipse.
    visible = (center[:, 2] > near) & (w[:, 0] ** 2 + w[:, 1] ** 2 < w[:, 2] ** 2)
    transform = jnp.where(visible[:, None, None], transform, jnp.eye(3, dtype=transform.dtype))
    w = transform[:, 2:]
    sign = jnp.array([1.0, 1.0, -1.0], w.dtype)
    f = sign / jnp.sum(sign * w * w, axis=-1, keepdims=True)
    normal = axes[:, :, 2]
    facing = -jnp.sum(normal * center, axis=-1, keepdims=True) > 0
    surfels = _Surfels(
        transform=transform,
        center=jnp.sum(f * transform[:, :2] * w, axis=-1),
        depth=jnp.where(visible, center[:, 2], 1.0),
        normal=jnp.where(facing, normal, -normal),
        opacity=jnp.where(visible, inputs.opacities, 0.0),
        color=inputs.colors,
    )
    order = jnp.argsort(jax.lax.stop_gradient(jnp.where(visible, surfels.depth, jnp.inf)), stable=True)
    return jax.tree.map(lambda value: value[order], surfels)


def _without_skew(intrinsics: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Only fx, fy, cx and cy count; the other entries get no gradient."""
    used = jnp.array([[True, False, True], [False, True, True], [False, False, False]])
    return jnp.where(used, intrinsics, jnp.eye(3, dtype=intrinsics.dtype) * jnp.array([0.0, 0.0, 1.0]))


class _Pairs(NamedTuple):
    """One pixel and one surfel each."""

    alpha: Float[Array, "p n"]
    depth: Float[Array, "p n"]


def _pairs(surfels: _Surfels, pixels: Float[Array, "p 2"], *, near: float) -> _Pairs:
    row_x, row_y, row_w = jnp.moveaxis(surfels.transform, 1, 0)
    h_x = pixels[:, None, :1] * row_w - row_x
    h_y = pixels[:, None, 1:] * row_w - row_y
    a, b, g = jnp.moveaxis(jnp.cross(h_x, h_y), -1, 0)
    edge_on = g == 0
    u, v = (jnp.where(edge_on, 0.0, value / jnp.where(edge_on, 1.0, g)) for value in (a, b))
    rho_disc = jnp.where(edge_on, jnp.inf, u * u + v * v)
    offset = pixels[:, None] - surfels.center
    rho_filter = FILTER_INVERSE_SQUARE * jnp.sum(offset * offset, axis=-1)
    on_disc: Bool[Array, "p n"] = rho_disc <= rho_filter
    # Select before squaring: where the disc is seen almost edge-on, u^2 is infinite and 0 * infinity is NaN.
    u, v = jnp.where(on_disc, u, 0.0), jnp.where(on_disc, v, 0.0)
    rho = jnp.where(on_disc, u * u + v * v, rho_filter)
    depth = jnp.where(on_disc, row_w[:, 0] * u + row_w[:, 1] * v + row_w[:, 2], surfels.depth)
    alpha = jnp.minimum(ALPHA_MAX, surfels.opacity * jnp.exp(-0.5 * rho))
    kept = (alpha >= ALPHA_MIN) & (depth > near)
    return _Pairs(alpha=jnp.where(kept, alpha, 0.0), depth=jnp.where(kept, depth, 1.0))


def _composite(surfels: _Surfels, background: Float[Array, "c"], pixels: Float[Array, "p 2"], *, near: float) -> _Sums:
    alpha, z = _pairs(surfels, pixels, near=near)
    weight, before = weights_of(alpha)
    total = jnp.sum(weight, axis=1)

    def in_front(value: Float[Array, "p n"]) -> Float[Array, "p n"]:
        return jnp.cumsum(value, axis=1) - value

    m = DISTORTION_FAR / (DISTORTION_FAR - DISTORTION_NEAR) * (1.0 - DISTORTION_NEAR / z)
    spread = m * m * in_front(weight) + in_front(weight * m * m) - 2.0 * m * in_front(weight * m)
    with jax.default_matmul_precision("highest"):
        return _Sums(
            color=weight @ surfels.color + (1.0 - total)[:, None] * background,
            alpha=total,
            depth=jnp.sum(weight * z, axis=1),
            median_depth=last_in_first_half(z, weight, before),
            normal=weight @ surfels.normal,
            distortion=jnp.sum(weight * spread, axis=1),
        )


class CompositingWeights(NamedTuple):
    """Weights of each primitive at each pixel, front to back."""

    weight: Float[Array, "p n"]  # its share of the pixel
    before: Float[Array, "p n"]  # transmittance in front of it


def weights_of(alpha: Float[Array, "p n"]) -> CompositingWeights:
    """w_i = alpha_i prod_{j < i} (1 - alpha_j); ends before the product falls to TRANSMITTANCE_STOP."""
    after = jnp.cumprod(1.0 - alpha, axis=1)
    before = jnp.concatenate([jnp.ones_like(after[:, :1]), after[:, :-1]], axis=1)
    return CompositingWeights(jnp.where(after > TRANSMITTANCE_STOP, alpha * before, 0.0), before)


def last_in_first_half(
    z: Float[Array, "p n"], weight: Float[Array, "p n"], before: Float[Array, "p n"]
) -> Float[Array, "p"]:
    """Depth of the last primitive that contributes and has more than half the light in front of it; no gradient."""
    chosen = jax.lax.stop_gradient((weight > 0) & (before > 0.5))
    last = z.shape[1] - 1 - jnp.argmax(chosen[:, ::-1], axis=1)
    median = jnp.take_along_axis(jax.lax.stop_gradient(z), last[:, None], axis=1)[:, 0]
    return jnp.where(jnp.any(chosen, axis=1), median, 0.0)
