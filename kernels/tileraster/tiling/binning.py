"""Which primitives touch which tiles, per tile in depth order, in lists of static size.

Primitives are ranked by depth. Each lists the tiles of its box, one *entry* per tile, rank by rank, so that a full
list drops the farthest entries. One keys-only sort of (tile, rank) then brings every tile's entries together in exact
depth order; the primitive comes back from the key. The place of an entry before the sort is known in closed form, so
gradients can go back to where their primitive's entries lie side by side, without atomics and without a search.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tileraster.constants import CAPACITY_STEP


class ScreenBoxes(NamedTuple):
    """Where a primitive can reach ALPHA_MIN, in pixels, and its place in the depth order."""

    low: Float[Array, "b n 2"]
    high: Float[Array, "b n 2"]
    depth: Float[Array, "b n"]
    visible: Bool[Array, "b n"]


class TileGrid(NamedTuple):
    """An image cut into square tiles; the last row and column may stick out."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


class Bins(NamedTuple):
    """Entries of a batch of images: flat lists over (image, entry), rows are flat over (image, primitive)."""

    row: Int[Array, "e"]  # primitive of each entry; one past the last row where there is no entry
    slot: Int[Array, "e"]  # place among its primitive's entries: `first[row]` to `first[row] + entries[row]`
    tile_start: Int[Array, "t"]  # entries of each tile, tiles flat over (image, tile)
    tile_end: Int[Array, "t"]
    first: Int[Array, "r"]
    entries: Int[Array, "r"]
    overflow: Int[Array, "b"]


class _ImageBins(NamedTuple):
    """The same for one image, indices relative to it."""

    row: Int[Array, "e"]
    slot: Int[Array, "e"]
    tile_start: Int[Array, "t"]
    tile_end: Int[Array, "t"]
    first: Int[Array, "n"]
    entries: Int[Array, "n"]
    overflow: Int[Array, ""]


# Small scenes get room for every primitive on every tile up to this many entries.
SMALL_CAPACITY = 1 << 13


def default_capacity(count: int, grid: TileGrid) -> int:
    """Entries to make room for: half as many again as those of a closed shell, such as a head, that fills the image.

    Its surfels have boxes of about 4 sqrt(pixels / surfels) + 2 pixels a side: 2.5 to 1.8 entries per surfel on tiles
    of 16 pixels for 10,000 to 40,000 surfels at 224 pixels. Room that is not used costs memory traffic.
    """
    side = 4 * math.sqrt(grid.width * grid.height / max(count, 1)) + 2
    wanted = max(math.ceil(1.5 * count * (1 + side / grid.tile) ** 2), SMALL_CAPACITY)
    return round_up_capacity(min(wanted, count * grid.tiles))


def round_up_capacity(entries: int) -> int:
    """The next multiple of CAPACITY_STEP, at least one step."""
    return max(-(-entries // CAPACITY_STEP), 1) * CAPACITY_STEP


def bin_primitives(boxes: ScreenBoxes, grid: TileGrid, *, capacity: int) -> Bins:
    """Sort the entries of every image by tile and depth; `capacity` entries fit per image."""
    batch, count = boxes.depth.shape
    bins = jax.vmap(lambda image: _bin_image(image, grid, capacity=capacity))(jax.lax.stop_gradient(boxes))
    image = jnp.arange(batch, dtype=jnp.int32)[:, None]

    def flat(values: Array, step: int) -> Array:
        return (values + image * step).reshape(-1)

    return Bins(
        row=jnp.where(bins.row < count, bins.row + image * count, batch * count).reshape(-1),
        slot=jnp.where(bins.slot < capacity, bins.slot + image * capacity, batch * capacity).reshape(-1),
        tile_start=flat(bins.tile_start, capacity),
        tile_end=flat(bins.tile_end, capacity),
        first=flat(bins.first, capacity),
        entries=bins.entries.reshape(-1),
        overflow=bins.overflow,
    )


def _bin_image(boxes: ScreenBoxes, grid: TileGrid, *, capacity: int) -> _ImageBins:
    count = boxes.depth.shape[0]
    order = jnp.argsort(jnp.where(boxes.visible, boxes.depth, jnp.inf), stable=True).astype(jnp.int32)
    low, extent = (corner[order] for corner in tile_rectangles(boxes, grid))
    touched = extent[:, 0] * extent[:, 1]
    end = _saturating_cumsum(touched, most=count * grid.tiles)
    start = jnp.minimum(end - touched, capacity)
    kept = jnp.clip(capacity - (end - touched), 0, touched)
    total = jnp.minimum(end[-1], capacity)

    rank = owner(start, kept, capacity)
    slot = jnp.arange(capacity, dtype=jnp.int32)
    step = slot - start[rank]
    columns = jnp.maximum(extent[:, 0], 1)[rank]
    tile = (low[rank, 1] + step // columns) * grid.columns + low[rank, 0] + step % columns
    tile, rank = _sort(jnp.where(slot < total, tile, grid.tiles), rank, tiles=grid.tiles, ranks=count)

    valid = slot < total
    tile_y, tile_x = tile // grid.columns, tile % grid.columns
    own_slot = start[rank] + (tile_y - low[rank, 1]) * jnp.maximum(extent[rank, 0], 1) + tile_x - low[rank, 0]
    bounds = jnp.searchsorted(tile, jnp.arange(grid.tiles + 1, dtype=tile.dtype)).astype(jnp.int32)
    return _ImageBins(
        row=jnp.where(valid, order[rank], count),
        slot=jnp.where(valid, own_slot, capacity),
        tile_start=bounds[:-1],
        tile_end=bounds[1:],
        first=jnp.zeros((count,), jnp.int32).at[order].set(start),
        entries=jnp.zeros((count,), jnp.int32).at[order].set(kept),
        overflow=end[-1] - total,
    )


class TileRectangles(NamedTuple):
    """The tiles of each primitive's box."""

    low: Int[Array, "*b n 2"]  # column, row
    extent: Int[Array, "*b n 2"]  # columns, rows; 0 for invisible primitives


def tile_rectangles(boxes: ScreenBoxes, grid: TileGrid) -> TileRectangles:
    shape = jnp.array([grid.columns, grid.rows], boxes.low.dtype)
    low = jnp.clip(jnp.floor(boxes.low / grid.tile), 0, shape).astype(jnp.int32)
    high = jnp.clip(jnp.floor(boxes.high / grid.tile) + 1, 0, shape).astype(jnp.int32)
    return TileRectangles(low, jnp.where(boxes.visible[..., None], jnp.maximum(high - low, 0), 0))


def _saturating_cumsum(values: Int[Array, "n"], *, most: int) -> Int[Array, "n"]:
    """Running sum that stays at 2^30 - 1 instead of wrapping around; `most` bounds the sum."""
    limit = (1 << 30) - 1
    if most <= limit:
        return jnp.cumsum(values)
    return jax.lax.associative_scan(lambda a, b: jnp.minimum(a + b, limit), jnp.minimum(values, limit))


def owner(start: Int[Array, "n"], kept: Int[Array, "n"], capacity: int) -> Int[Array, "e"]:
    """Index of the range that each slot belongs to: mark the starts of those that are not empty, carry the marks on."""
    marks = jnp.zeros((capacity,), jnp.int32)
    target = jnp.where(kept > 0, start, capacity)
    marks = marks.at[target].max(jnp.arange(start.shape[0], dtype=jnp.int32), mode="drop")
    return jax.lax.cummax(marks)


class _Sorted(NamedTuple):
    tile: Int[Array, "e"]
    rank: Int[Array, "e"]


def _sort(tile: Int[Array, "e"], rank: Int[Array, "e"], *, tiles: int, ranks: int) -> _Sorted:
    """Sort by (tile, rank); tile == tiles marks unused entries, which end up last.

    Both fit one 32-bit key up to a million primitives on a 512 x 512 image; beyond that two keys are sorted.
    """
    rank_bits = max(ranks - 1, 1).bit_length()
    if tiles.bit_length() + rank_bits > 32:
        return _Sorted(*jax.lax.sort((tile, rank), num_keys=2, is_stable=False))
    key = (tile.astype(jnp.uint32) << rank_bits) | rank.astype(jnp.uint32)
    key = jax.lax.sort(key, is_stable=False)
    return _Sorted(
        tile=(key >> rank_bits).astype(jnp.int32), rank=(key & jnp.uint32((1 << rank_bits) - 1)).astype(jnp.int32)
    )


def sum_entries(values: Float[Array, "e k"], bins: Bins) -> Float[Array, "r k"]:
    """Sum values over each primitive's entries; `values` lie at the entries' slots. Bit-for-bit reproducible."""
    return jax.lax.platform_dependent(values, bins, cpu=_sum_in_order, default=_sum_side_by_side)


def _sum_in_order(values: Float[Array, "e k"], bins: Bins) -> Float[Array, "r k"]:
    """One pass over the entries: a CPU adds them in order."""
    rows = bins.first.shape[0]
    row_of_slot = jnp.full((values.shape[0],), rows, jnp.int32).at[bins.slot].set(bins.row, mode="drop")
    return jnp.zeros((rows, values.shape[1]), values.dtype).at[row_of_slot].add(values, mode="drop")


def _sum_side_by_side(values: Float[Array, "e k"], bins: Bins) -> Float[Array, "r k"]:
    """All primitives at once, their k-th entries together: no atomics, so the order is fixed on a GPU as well."""

    def add(k: Array, total: Array) -> Array:
        index = jnp.minimum(bins.first + k, values.shape[0] - 1)
        return total + jnp.where((k < bins.entries)[:, None], values[index], 0.0)

    start = jnp.zeros((bins.first.shape[0], values.shape[1]), values.dtype)
    return jax.lax.fori_loop(0, jnp.max(bins.entries), add, start)


def join_tiles(values: Float[Array, "t f p"], grid: TileGrid, batch: int) -> Float[Array, "b h w f"]:
    """Images from tiles, without what sticks out."""
    features = values.shape[1]
    split = values.reshape(batch, grid.rows, grid.columns, features, grid.tile, grid.tile)
    image = split.transpose(0, 1, 4, 2, 5, 3).reshape(batch, grid.rows * grid.tile, grid.columns * grid.tile, features)
    return image[:, : grid.height, : grid.width]
