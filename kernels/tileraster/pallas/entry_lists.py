"""Entries one behind the other in memory, in chunks, as the TPU's kernels read them by DMA.

XLA gathers the rows of the entries. A kernel composites them or makes their gradients, which XLA brings back to the
primitives.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster.pallas import entry_rows
from tileraster.pallas.composite import Gradients, Primitives, TileCotangents, TileSums
from tileraster.pallas.entry_rows import Moments
from tileraster.splats import surfel_pairs
from tileraster.tiling.binning import Bins, TileGrid, sum_entries
from tileraster.tiling.chunks import Segments, cut_into_chunks, tile_centers


class Lists(NamedTuple):
    """The entries as the kernels read them."""

    rows: Float[Array, "k e 16"]
    features: Float[Array, "k e f"]
    first: Int[Array, "t"]
    chunks: Int[Array, "t"]


class EntryGradients(NamedTuple):
    """What a backward kernel returns. Chunks that are not used hold anything."""

    moments: Moments
    features: Float[Array, "k e f"]


def forward(
    primitives: Primitives, *, grid: TileGrid, near: float, chunk: int, kernel: Callable[..., TileSums]
) -> TileSums:
    """Composite lists in chunks of `chunk` entries with `kernel(lists, near=)`."""
    segments = cut_into_chunks(primitives.bins, size=chunk)
    return kernel(read_lists(primitives, segments, grid), near=near)


def backward(
    primitives: Primitives,
    cotangents: TileCotangents,
    *,
    grid: TileGrid,
    near: float,
    chunk: int,
    kernel: Callable[..., EntryGradients],
) -> Gradients:
    """Gradients of the primitives, from those of the entries, `kernel(lists, cotangents, near=)`."""
    geometry, _, bins = primitives
    segments = cut_into_chunks(bins, size=chunk)
    gradients = kernel(read_lists(primitives, segments, grid), cotangents, near=near)
    rows = gather_entries(geometry, bins, segments)
    middles = tile_centers(segments.tile, grid)[:, None]
    by_entry = [entry_rows.geometry_gradient(gradients.moments, rows, middles), gradients.features]
    by_slot = jnp.concatenate(by_entry, axis=-1).reshape(-1, geometry.shape[1] + gradients.features.shape[-1])
    summed = sum_entries(by_slot[segments.place], bins)
    return Gradients(summed[:, : geometry.shape[1]], summed[:, geometry.shape[1] :])


def read_lists(primitives: Primitives, segments: Segments, grid: TileGrid) -> Lists:
    geometry, features, bins = primitives
    rows = gather_entries(geometry, bins, segments)
    # m is taken relative to the first entry of the tile: the distortion depends on differences only.
    nearest = surfel_pairs.split(rows).depth[segments.first, 0, 0]
    reference = 1.0 / jnp.where(nearest > 0, nearest, 1.0)
    return Lists(
        rows=entry_rows.pack(rows, tile_centers(segments.tile, grid)[:, None], reference[segments.tile][:, None]),
        features=gather_entries(features, bins, segments),
        first=segments.first,
        chunks=segments.chunks,
    )


def gather_entries(table: Float[Array, "r n"], bins: Bins, segments: Segments) -> Float[Array, "k e n"]:
    """Rows of the entries; zeros, and so an opacity of 0, where there is none."""
    row = bins.row.at[segments.entry].get(mode="fill", fill_value=table.shape[0])
    return table.at[row].get(mode="fill", fill_value=0.0)
