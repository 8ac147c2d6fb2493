"""Ellipsoids, the ground truth: every one at every pixel, covariances as matrices, gradients by autodiff."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tileraster.camera import rotation_matrix
from tileraster.constants import ALPHA_MAX, ALPHA_MIN, DILATION, FRUSTUM_MARGIN
from tileraster.splats.reference_surfels import last_in_first_half, pixel_chunks, weights_of
from tileraster.types import EllipsoidImage, SplatInputs

_LARGEST = 1e15  # world units: squares of larger scales overflow float32


class _Gaussians(NamedTuple):
    """2D Gaussians of one image in front-to-back order."""

    center: Float[Array, "n 2"]
    covariance: Float[Array, "n 2 2"]
    depth: Float[Array, "n"]
    opacity: Float[Array, "n"]
    color: Float[Array, "n c"]


class _Sums(NamedTuple):
    color: Float[Array, "p c"]
    alpha: Float[Array, "p"]
    depth: Float[Array, "p"]
    median_depth: Float[Array, "p"]


def render_ellipsoids_reference(inputs: SplatInputs, *, width: int, height: int, near: float) -> EllipsoidImage:
    """`rasterize_ellipsoids` for a flat batch."""

    def one_image(image: SplatInputs) -> _Sums:
        gaussians = _project(image, width=width, height=height, near=near)
        return pixel_chunks(
            lambda pixels: _composite(gaussians, image.background, pixels),
            width=width,
            height=height,
            dtype=image.means.dtype,
        )

    sums = jax.lax.map(one_image, inputs)
    return EllipsoidImage(**sums._asdict(), overflow=jnp.zeros((inputs.means.shape[0],), jnp.int32))


def _project(inputs: SplatInputs, *, width: int, height: int, near: float) -> _Gaussians:
    with jax.default_matmul_precision("highest"):
        rotation = inputs.viewmats[:3, :3]
        center = inputs.means @ rotation.T + inputs.viewmats[:3, 3]
        visible = center[:, 2] > near
        x, y, z = jnp.where(visible[:, None], center, jnp.array([0.0, 0.0, 1.0])).T
        (fx, fy), (cx, cy) = jnp.diagonal(inputs.intrinsics)[:2], inputs.intrinsics[:2, 2]
        margin_x, margin_y = FRUSTUM_MARGIN * width / 2, FRUSTUM_MARGIN * height / 2
        slope_x = jnp.clip(x / z, (-cx - margin_x) / fx, (width - cx + margin_x) / fx)
        slope_y = jnp.clip(y / z, (-cy - margin_y) / fy, (height - cy + margin_y) / fy)
        zero = jnp.zeros_like(z)
        jacobian = jnp.stack(
            [jnp.stack([fx / z, zero, -fx * slope_x / z], -1), jnp.stack([zero, fy / z, -fy * slope_y / z], -1)], axis=1
        )
        axes = rotation_matrix(inputs.quats)
        scales = jnp.minimum(inputs.scales, _LARGEST)
        world = axes @ (scales[:, :, None] ** 2 * jnp.swapaxes(axes, 1, 2))
        full = jacobian @ rotation
        covariance = full @ world @ jnp.swapaxes(full, 1, 2) + DILATION * jnp.eye(2, dtype=z.dtype)
    gaussians = _Gaussians(
        center=jnp.stack([fx * x / z + cx, fy * y / z + cy], axis=-1) + inputs.screen_probe,
        covariance=covariance,
        depth=z,
        opacity=jnp.where(visible, inputs.opacities, 0.0),
        color=inputs.colors,
    )
    order = jnp.argsort(jax.lax.stop_gradient(jnp.where(visible, z, jnp.inf)), stable=True)
    return jax.tree.map(lambda value: value[order], gaussians)


def _composite(gaussians: _Gaussians, background: Float[Array, "c"], pixels: Float[Array, "p 2"]) -> _Sums:
    offset = pixels[:, None] - gaussians.center
    conic = jnp.linalg.inv(gaussians.covariance)
    with jax.default_matmul_precision("highest"):
        rho = jnp.einsum("pni,nij,pnj->pn", offset, conic, offset)
        alpha = jnp.minimum(ALPHA_MAX, gaussians.opacity * jnp.exp(-0.5 * rho))
        alpha = jnp.where(alpha >= ALPHA_MIN, alpha, 0.0)
        weight, before = weights_of(alpha)
        total = jnp.sum(weight, axis=1)
        return _Sums(
            color=weight @ gaussians.color + (1.0 - total)[:, None] * background,
            alpha=total,
            depth=weight @ gaussians.depth,
            median_depth=last_in_first_half(jnp.broadcast_to(gaussians.depth, alpha.shape), weight, before),
        )
