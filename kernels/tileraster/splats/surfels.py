"""Surfels by tiles: project, bin, composite, and put the tiles together."""

import jax.numpy as jnp

from tileraster.splats.composited import VARYING, Composited, Compositor
from tileraster.splats.projection import project_surfels
from tileraster.tiling.binning import TileGrid, bin_primitives, default_capacity, join_tiles
from tileraster.types import SplatInputs, SurfelImage


def render_surfels_tiled(
    inputs: SplatInputs, *, width: int, height: int, near: float, max_intersections: int | None, compositor: Compositor
) -> SurfelImage:
    """`rasterize_surfels` for a flat batch."""
    batch, count = inputs.opacities.shape
    grid = TileGrid(width=width, height=height, tile=compositor.tile)
    projected = project_surfels(inputs, near=near)
    capacity = max_intersections or default_capacity(count, grid)
    bins = bin_primitives(projected.boxes, grid, capacity=capacity)
    ones = jnp.ones((batch, count, 1), inputs.colors.dtype)
    features = jnp.concatenate([inputs.colors, projected.normal, ones], axis=-1)
    tiles: Composited = compositor.composite(
        projected.geometry.reshape(batch * count, -1), features.reshape(batch * count, -1), bins, grid, near
    )
    sums = join_tiles(tiles.sums, grid, batch)
    channels = inputs.colors.shape[-1]
    color, normal, alpha = sums[..., :channels], sums[..., channels : channels + 3], sums[..., channels + 3]
    depth, m, m2 = (sums[..., k] for k in range(-VARYING, 0))
    return SurfelImage(
        color=color + (1.0 - alpha)[..., None] * inputs.background[:, None, None],
        alpha=alpha,
        depth=depth,
        median_depth=join_tiles(tiles.median_depth[:, None], grid, batch)[..., 0],
        normal=normal,
        # sum_{i < j} w_i w_j (m_i - m_j)^2 = (sum w) (sum w m^2) - (sum w m)^2
        distortion=alpha * m2 - m * m,
        overflow=bins.overflow,
    )
