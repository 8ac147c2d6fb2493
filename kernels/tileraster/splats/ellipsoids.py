"""3D Gaussians by tiles: splatted to the screen (Zwicker et al. 2001; Kerbl et al. 2023), then composited like surfels.

On the screen an ellipsoid is a 2D Gaussian with covariance S = J A A^T J^T + 0.3 I, where A holds its scaled axes in
camera space and J is the Jacobian of the projection at its centre. With the Cholesky factor L of S, the exponent
d^T S^-1 d is |L^-1 d|^2: that of a surfel that faces the camera with Jacobian L. So ellipsoids are handed to the
surfels' compositing as such, with their low-pass filter out of reach.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tileraster.camera import rotation_matrix, to_camera, turn
from tileraster.constants import ALPHA_MIN, DILATION, FRUSTUM_MARGIN
from tileraster.splats.composited import VARYING, Composited, Compositor
from tileraster.splats.projection import clamp_scales
from tileraster.tiling.binning import ScreenBoxes, TileGrid, bin_primitives, default_capacity, join_tiles
from tileraster.types import EllipsoidImage, SplatInputs

_NO_FILTER = 1e6  # pixels: where the surfels' low-pass filter is put to be without effect


class ProjectedEllipsoids(NamedTuple):
    """Ellipsoids on the screen."""

    center: Float[Array, "b n 2"]
    factor: Float[Array, "b n 3"]  # L_00, L_10, L_11
    depth: Float[Array, "b n"]
    opacity: Float[Array, "b n"]
    visible: Bool[Array, "b n"]


def render_ellipsoids_tiled(
    inputs: SplatInputs, *, width: int, height: int, near: float, max_intersections: int | None, compositor: Compositor
) -> EllipsoidImage:
    """`rasterize_ellipsoids` for a flat batch."""
    batch, count = inputs.opacities.shape
    grid = TileGrid(width=width, height=height, tile=compositor.tile)
    splats = project_ellipsoids(inputs, width=width, height=height, near=near)
    capacity = max_intersections or default_capacity(count, grid)
    bins = bin_primitives(ellipsoid_boxes(splats), grid, capacity=capacity)
    ones = jnp.ones((batch, count, 1), inputs.colors.dtype)
    features = jnp.concatenate([inputs.colors, ones], axis=-1).reshape(batch * count, -1)
    geometry = _as_surfels(splats).reshape(batch * count, -1)
    tiles: Composited = compositor.composite(geometry, features, bins, grid, near)
    sums = join_tiles(tiles.sums, grid, batch)
    channels = inputs.colors.shape[-1]
    alpha = sums[..., channels]
    return EllipsoidImage(
        color=sums[..., :channels] + (1.0 - alpha)[..., None] * inputs.background[:, None, None],
        alpha=alpha,
        depth=sums[..., -VARYING],
        median_depth=join_tiles(tiles.median_depth[:, None], grid, batch)[..., 0],
        overflow=bins.overflow,
    )


def project_ellipsoids(inputs: SplatInputs, *, width: int, height: int, near: float) -> ProjectedEllipsoids:
    """Splat the ellipsoids of a batch of images. Invisible ones get opacity 0."""
    center = to_camera(inputs.means, inputs.viewmats)
    visible = (center[..., 2] > near) & (inputs.opacities >= ALPHA_MIN)
    # Harmless numbers before anything divides by them: gradients of culled ellipsoids are 0, not NaN.
    center = jnp.where(visible[..., None], center, jnp.array([0.0, 0.0, 1.0], center.dtype))
    z = center[..., 2:]
    focal = jnp.stack([inputs.intrinsics[:, 0, 0], inputs.intrinsics[:, 1, 1]], axis=-1)[:, None]
    middle = inputs.intrinsics[:, None, :2, 2]
    view = inputs.viewmats[:, None, :3, :3]
    axes = turn(view, rotation_matrix(inputs.quats))

    # Beside the image the linear projection grows without bound and approximates badly: clip its direction.
    size = jnp.array([width, height], z.dtype)
    margin = FRUSTUM_MARGIN * size / 2
    direction = jnp.clip(center[..., :2] / z, (-middle - margin) / focal, (size - middle + margin) / focal)
    rows = focal[..., None] / z[..., None] * (axes[..., :2, :] - direction[..., None] * axes[..., 2:, :])
    rows = rows * clamp_scales(inputs.scales, rows)[..., None, :]
    xx, yy = (jnp.sum(rows[..., k, :] ** 2, axis=-1) for k in (0, 1))
    xy = jnp.sum(rows[..., 0, :] * rows[..., 1, :], axis=-1)
    # det(R R^T) as a square (Cauchy-Binet): xx yy - xy^2 would lose the digits of needles.
    area = jnp.sum(jnp.cross(rows[..., 0, :], rows[..., 1, :]) ** 2, axis=-1)
    determinant = area + DILATION * (xx + yy) + DILATION**2
    first = jnp.sqrt(xx + DILATION)
    return ProjectedEllipsoids(
        center=focal * center[..., :2] / z + middle + inputs.screen_probe,
        factor=jnp.stack([first, xy / first, jnp.sqrt(determinant) / first], axis=-1),
        depth=z[..., 0],
        opacity=jnp.where(visible, inputs.opacities, 0.0),
        visible=visible,
    )


def _as_surfels(splats: ProjectedEllipsoids) -> Float[Array, "b n 13"]:
    """Rows of `surfel_pairs.Column`."""
    l00, l10, l11 = jnp.moveaxis(splats.factor, -1, 0)
    zero = jnp.zeros_like(l00)
    jacobian, disc = (l00, zero, l10, l11), (l00 * l11, zero, zero)
    columns = (*jacobian, *disc, zero + _NO_FILTER, zero, splats.depth, splats.opacity)
    return jnp.concatenate([splats.center, jnp.stack(columns, axis=-1)], axis=-1)


def ellipsoid_boxes(splats: ProjectedEllipsoids) -> ScreenBoxes:
    """Where opacity exp(-rho / 2) can reach ALPHA_MIN."""
    spread = jnp.sqrt(2.0 * jnp.log(jnp.maximum(splats.opacity / ALPHA_MIN, 1.0)))[..., None]
    l00, l10, l11 = jnp.moveaxis(splats.factor, -1, 0)
    half = spread * jnp.stack([l00, jnp.sqrt(l10 * l10 + l11 * l11)], axis=-1)
    half = half + 1e-2 + 1e-4 * half  # the rounding of float32
    boxes = ScreenBoxes(splats.center - half, splats.center + half, splats.depth, splats.visible)
    return jax.lax.stop_gradient(boxes)
