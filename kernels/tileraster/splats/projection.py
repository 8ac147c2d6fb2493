"""Surfels on the screen: what the fast implementations need to know about each of them, in 13 numbers.

With the projected centre p as origin, x' = x - p, the ray-surfel intersection of 2DGS (Huang et al. 2024, eq. 8-10)
becomes affine in the pixel and free of cancellation. The homogeneous transform M = K [s_u r_u | s_v r_v | p_c],
translated by -p, has the rows (J_00, J_01, 0), (J_10, J_11, 0), (w_0, w_1, z_c): J / z_c is the Jacobian of the
projection along the scaled tangents, w their depth. Crossing the two planes through a pixel gives

    (u, v) = adj(J) x' / g,   g = (det J + x' . (w_1 J_10 - w_0 J_11, w_0 J_01 - w_1 J_00)) / z_c ... (*)
    z      = det J / g

(*) with the signs written out in `_disc`. Nothing divides by the cosine between ray and surfel, so that edge-on
surfels are no special case.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tileraster.camera import rotation_matrix, to_camera, turn
from tileraster.constants import ALPHA_MIN, WIDEST
from tileraster.tiling.binning import ScreenBoxes
from tileraster.types import SplatInputs


class ProjectedSurfels(NamedTuple):
    """Rows for `surfel_pairs`, features to composite, and boxes for the binning."""

    geometry: Float[Array, "b n 13"]  # columns: surfel_pairs.Column
    normal: Float[Array, "b n 3"]
    boxes: ScreenBoxes


def project_surfels(inputs: SplatInputs, *, near: float) -> ProjectedSurfels:
    """Project the surfels of a batch of images. Invisible ones get opacity 0 and an empty box."""
    view = inputs.viewmats[:, None, :3, :3]
    axes = turn(view, rotation_matrix(inputs.quats))
    center = to_camera(inputs.means, inputs.viewmats)
    depth_slope = axes[..., 2, :2] * inputs.scales
    visible = (center[..., 2] > near) & (jnp.sum(depth_slope**2, axis=-1) < center[..., 2] ** 2)
    visible &= inputs.opacities >= ALPHA_MIN
    # Harmless numbers before anything divides by them: gradients of culled surfels are 0, not NaN.
    safe_center = jnp.where(visible[..., None], center, jnp.array([0.0, 0.0, 1.0], center.dtype))

    z = safe_center[..., 2:]
    direction = safe_center[..., :2] / z
    focal = jnp.stack([inputs.intrinsics[:, 0, 0], inputs.intrinsics[:, 1, 1]], axis=-1)[:, None]
    projected = focal * direction + inputs.intrinsics[:, None, :2, 2] + inputs.screen_probe
    # Of tangents of unit length; the pixels that a scale of 1 spans.
    reach = focal[..., None] * (axes[..., :2, :2] - direction[..., None] * axes[..., 2:, :2])
    scales = clamp_scales(inputs.scales, reach / z[..., None])
    jacobian = reach * scales[..., None, :]
    slope = jnp.where(visible[..., None], axes[..., 2, :2] * scales, 0.0)
    disc = _disc(jacobian, slope, z)
    offset = _ellipse_center(jacobian, slope, z, spread=jnp.ones_like(z))
    opacity = jnp.where(visible, inputs.opacities, 0.0)[..., None]
    geometry = jnp.concatenate(
        [projected, jacobian.reshape(*z.shape[:-1], 4), disc, offset, z, opacity],
        axis=-1,
    )
    normal = axes[..., 2]
    facing = -jnp.sum(normal * center, axis=-1, keepdims=True) > 0
    boxes = _boxes(*jax.lax.stop_gradient((projected, jacobian, slope, z, offset, opacity)), visible)
    return ProjectedSurfels(geometry=geometry, normal=jnp.where(facing, normal, -normal), boxes=boxes)


def clamp_scales(scales: Float[Array, "b n k"], pixels_per_unit: Float[Array, "b n 2 k"]) -> Float[Array, "b n k"]:
    """Scales of at most WIDEST pixels on the screen along each axis."""
    span = jnp.max(jnp.abs(jax.lax.stop_gradient(pixels_per_unit)), axis=-2)
    return jnp.minimum(scales, WIDEST / jnp.maximum(span, 1e-30))


def _disc(
    jacobian: Float[Array, "b n 2 2"], slope: Float[Array, "b n 2"], z: Float[Array, "b n 1"]
) -> Float[Array, "b n 3"]:
    """Coefficients of g(x') = g_0 + g_x x' + g_y y', the third entry of (x' w - M_x) x (y' w - M_y) over z_c."""
    (j00, j01), (j10, j11) = (jnp.moveaxis(jacobian[..., row, :], -1, 0) for row in (0, 1))
    w0, w1 = slope[..., 0], slope[..., 1]
    return jnp.stack([j00 * j11 - j01 * j10, j10 * w1 - j11 * w0, w0 * j01 - w1 * j00], axis=-1) / z


def _ellipse_center(
    jacobian: Float[Array, "b n 2 2"],
    slope: Float[Array, "b n 2"],
    z: Float[Array, "b n 1"],
    *,
    spread: Float[Array, "b n 1"],
) -> Float[Array, "b n 2"]:
    """Centre, relative to p, of the box around the projected ellipse of `spread` standard deviations."""
    square = spread * spread
    denominator = square * jnp.sum(slope * slope, axis=-1, keepdims=True) - z * z
    return square * jnp.sum(jacobian * slope[..., None, :], axis=-1) / denominator


def _boxes(
    projected: Float[Array, "b n 2"],
    jacobian: Float[Array, "b n 2 2"],
    slope: Float[Array, "b n 2"],
    z: Float[Array, "b n 1"],
    offset: Float[Array, "b n 2"],
    opacity: Float[Array, "b n 1"],
    visible: Bool[Array, "b n"],
) -> ScreenBoxes:
    """Exact boxes: opacity exp(-rho / 2) >= ALPHA_MIN up to rho = k^2, of the ellipse and of the filter's disc."""
    square = 2.0 * jnp.log(jnp.maximum(opacity / ALPHA_MIN, 1.0))
    spread = jnp.sqrt(square)
    # A k-sigma disc that reaches the camera plane projects to something unbounded.
    bounded = square * jnp.sum(slope * slope, axis=-1, keepdims=True) < 0.999 * z * z
    spread = jnp.where(bounded, spread, 0.0)
    square = spread * spread
    denominator = square * jnp.sum(slope * slope, axis=-1, keepdims=True) - z * z
    center = _ellipse_center(jacobian, slope, z, spread=spread)
    half = center * center - square * jnp.sum(jacobian * jacobian, axis=-1) / denominator
    half = jnp.sqrt(jnp.maximum(half, 0.0))
    radius = jnp.sqrt(jnp.log(jnp.maximum(opacity / ALPHA_MIN, 1.0)))  # of the filter: rho = 2 d^2
    # The margin absorbs the rounding of float32.
    margin = 1e-2 + 1e-4 * half
    low = jnp.minimum(center - half - margin, offset - radius - 1e-2)
    high = jnp.maximum(center + half + margin, offset + radius + 1e-2)
    return ScreenBoxes(
        low=jnp.where(bounded, projected + low, -jnp.inf),
        high=jnp.where(bounded, projected + high, jnp.inf),
        depth=z[..., 0],
        visible=visible,
    )
