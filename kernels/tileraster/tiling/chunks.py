"""Tile lists cut into chunks of fixed size, as the Pallas kernels read them: a tile's list starts at a whole chunk."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster.tiling.binning import Bins, TileGrid, owner


class Segments(NamedTuple):
    """All lists of a batch one after the other, filled up to whole chunks of e entries. Tiles are flat over images."""

    entry: Int[Array, "k e"]  # index into the lists of `Bins`; one past their end where a list is filled up
    tile: Int[Array, "k"]  # that each chunk belongs to
    first: Int[Array, "t"]  # chunk of each tile
    chunks: Int[Array, "t"]
    place: Int[Array, "s"]  # where the entry of each slot is, flat over (chunk, entry)


def cut_into_chunks(bins: Bins, *, size: int) -> Segments:
    """Chunks of `size` entries. Their number is the most that the capacity can need; the last ones are unused."""
    capacity, tiles = bins.row.shape[0], bins.tile_start.shape[0]
    total = capacity // size + tiles
    chunks = -(-(bins.tile_end - bins.tile_start) // size)
    end = jnp.cumsum(chunks)
    first = end - chunks
    tile = owner(first, chunks, total)
    chunk = jnp.arange(total, dtype=jnp.int32)
    start = bins.tile_start[tile] + (chunk - first[tile]) * size
    entry = start[:, None] + jnp.arange(size, dtype=jnp.int32)
    valid = (entry < bins.tile_end[tile][:, None]) & (chunk < end[-1])[:, None]
    entry = jnp.where(valid, entry, capacity)
    slot = bins.slot.at[entry.reshape(-1)].get(mode="fill", fill_value=capacity)
    place = jnp.zeros((capacity,), jnp.int32)
    place = place.at[slot].set(jnp.arange(total * size, dtype=jnp.int32), mode="drop")
    return Segments(entry=entry, tile=tile, first=first, chunks=chunks, place=place)


def tile_centers(tile: Int[Array, "k"], grid: TileGrid) -> Float[Array, "k 2"]:
    """Middles (x, y) of tiles that are flat over images, in pixels."""
    tile = tile % grid.tiles
    corner = jnp.stack([tile % grid.columns, tile // grid.columns], axis=-1) * grid.tile
    return corner.astype(jnp.float32) + grid.tile / 2
