"""`splats.xla.composite` with the work on pixels done by Pallas kernels: what all of them share.

XLA gathers the entries' rows into chunks, a kernel composites them or makes their gradients, and XLA brings those back
to the primitives. A kernel sees one tile at a time and writes one gradient row per entry. No two of them add to the
same number, so gradients are the same every time.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster.pallas import entry_rows
from tileraster.pallas.entry_rows import Moments
from tileraster.splats import surfel_pairs
from tileraster.splats.composited import DISTORTION_SCALE, VARYING, Composited
from tileraster.tiling.binning import Bins, TileGrid, sum_entries
from tileraster.tiling.chunks import Segments, cut_into_chunks, tile_centers

_M_SCALE = -DISTORTION_SCALE  # the kernels' m is 1 / z minus a constant


class TileSums(NamedTuple):
    """What a forward kernel returns. Pixels row by row."""

    features: Float[Array, "t f p"]
    alpha: Float[Array, "t p"]
    depth: Float[Array, "t p"]
    m: Float[Array, "t p"]
    m2: Float[Array, "t p"]
    median_depth: Float[Array, "t p"]


class TileCotangents(NamedTuple):
    """What a backward kernel gets besides the rows. `total` is the sum of all sums times their cotangents."""

    features: Float[Array, "t f p"]
    depth: Float[Array, "t p"]
    m: Float[Array, "t p"]
    m2: Float[Array, "t p"]
    total: Float[Array, "t p"]


class EntryGradients(NamedTuple):
    """What a backward kernel returns. Chunks that are not used hold anything."""

    moments: Moments
    features: Float[Array, "k e f"]


class Lists(NamedTuple):
    """The entries as the kernels read them."""

    rows: Float[Array, "k e 16"]
    features: Float[Array, "k e f"]
    first: Int[Array, "t"]
    chunks: Int[Array, "t"]


class Kernels(NamedTuple):
    """A backend. Both functions take `near` by keyword."""

    tile: int
    chunk: int
    forward: Callable[..., TileSums]
    backward: Callable[..., EntryGradients]


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
    segments = cut_into_chunks(bins, size=kernels.chunk)
    lists = _read_lists(geometry, features, bins, segments, grid)
    tiles = kernels.forward(lists, near=near)
    varying = [tiles.alpha, tiles.depth, _M_SCALE * tiles.m, _M_SCALE**2 * tiles.m2]
    sums = jnp.concatenate([tiles.features[:, :-1], jnp.stack(varying, axis=1)], axis=1)
    return Composited(sums, tiles.median_depth), (geometry, features, bins, sums)


def _backward(grid: TileGrid, near: float, kernels: Kernels, saved: tuple, cotangent: Composited) -> tuple:
    geometry, features, bins, sums = saved
    segments = cut_into_chunks(bins, size=kernels.chunk)
    lists = _read_lists(geometry, features, bins, segments, grid)
    of_sums = cotangent.sums
    gradients = kernels.backward(
        lists,
        TileCotangents(
            features=of_sums[:, :-VARYING],
            depth=of_sums[:, -3],
            m=_M_SCALE * of_sums[:, -2],
            m2=_M_SCALE**2 * of_sums[:, -1],
            total=jnp.sum(sums * of_sums, axis=1),
        ),
        near=near,
    )
    rows = gather_entries(geometry, bins, segments)
    d_geometry = entry_rows.geometry_gradient(gradients.moments, rows, tile_centers(segments.tile, grid))
    by_entry = jnp.concatenate([d_geometry, gradients.features], axis=-1)
    by_slot = by_entry.reshape(-1, by_entry.shape[-1])[segments.place]
    summed = sum_entries(by_slot, bins)
    return summed[:, : geometry.shape[1]], summed[:, geometry.shape[1] :], None


composite.defvjp(_forward, _backward)


def _read_lists(geometry: Array, features: Array, bins: Bins, segments: Segments, grid: TileGrid) -> Lists:
    rows = gather_entries(geometry, bins, segments)
    # m is taken relative to the first entry of the tile: the distortion depends on differences only.
    nearest = surfel_pairs.split(rows).depth[segments.first, 0, 0]
    reference = 1.0 / jnp.where(nearest > 0, nearest, 1.0)
    return Lists(
        rows=entry_rows.pack(rows, tile_centers(segments.tile, grid), reference[segments.tile]),
        features=gather_entries(features, bins, segments),
        first=segments.first,
        chunks=segments.chunks,
    )


def gather_entries(table: Float[Array, "r n"], bins: Bins, segments: Segments) -> Float[Array, "k e n"]:
    """Rows of the entries; zeros, and so an opacity of 0, where there is none."""
    row = bins.row.at[segments.entry].get(mode="fill", fill_value=table.shape[0])
    return table.at[row].get(mode="fill", fill_value=0.0)
