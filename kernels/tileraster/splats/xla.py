"""Front-to-back compositing of tile lists, with a backward pass written by hand.

    out = sum_i w_i f_i,   w_i = alpha_i T_i,   T_i = prod_{j < i} (1 - alpha_j)

Tiles are sorted by the length of their list and go through in groups of equal work; a group reads its lists in chunks
and stops when no pixel lets light through. The backward pass reads the same chunks again, front to back: with the
cotangent c of `out` and q_i = c . f_i,

    d alpha_i = T_i q_i - (sum_{j > i} w_j q_j) / (1 - alpha_i)

where the sum behind i is the total (c . out) minus the sum up to i: nothing is saved but the outputs. Each entry writes
one row of gradients to its own slot, so there are no atomics and gradients are reproducible.

f_i has a part that is constant over the pixels (colour, normal, 1) and three that vary: z, m and m^2, of which depth
and distortion are made. m(z) is taken relative to the first surfel of the tile: the distortion depends on differences
only, and small numbers keep their digits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster.constants import TRANSMITTANCE_STOP
from tileraster.splats import surfel_pairs
from tileraster.splats.composited import DISTORTION_SCALE, VARYING, Composited
from tileraster.tiling.binning import Bins, TileGrid, sum_entries

TILE = 8  # pixels a side
TILES_PER_GROUP = 16
ENTRIES_PER_CHUNK = 16


class _Group(NamedTuple):
    """A group of tiles on its way through `lax.map`."""

    tile: Int[Array, "g"]  # flat over (image, tile); one past the last for padding
    start: Int[Array, "g"]
    end: Int[Array, "g"]
    chunks: Int[Array, ""]  # that were read: filled by the forward pass


class _Chunk(NamedTuple):
    """Everything about one chunk of entries of a group that both passes need."""

    pairs: surfel_pairs.SurfelPairs
    geometry: Float[Array, "g e k"]
    features: Float[Array, "g e f"]
    slot: Int[Array, "g e"]
    before: Float[Array, "g e p"]  # T_i
    weight: Float[Array, "g e p"]
    m: Float[Array, "g e p"]
    transmittance: Float[Array, "g p"]  # behind the chunk


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def composite(
    geometry: Float[Array, "r 13"], features: Float[Array, "r f"], bins: Bins, grid: TileGrid, near: float
) -> Composited:
    """Composite surfels over their tiles: rows of `geometry` and `features` are flat over (image, surfel)."""
    return _forward(geometry, features, bins, grid, near)[0]


def _forward(geometry: Array, features: Array, bins: Bins, grid: TileGrid, near: float) -> tuple[Composited, tuple]:
    groups = _group_tiles(bins)
    tables = _with_empty_row(geometry), _with_empty_row(features)
    pixels = grid.tile**2
    size, dtype = groups.tile.shape[1], geometry.dtype
    empty = Composited(
        sums=jnp.zeros((size, features.shape[1] + VARYING, pixels), dtype),
        median_depth=jnp.zeros((size, pixels), dtype),
    )

    def one_group(group: _Group) -> tuple[Composited, Array]:
        reference = _reference_inverse_depth(tables[0], bins, group)

        def more(state: tuple) -> Array:
            chunk, transmittance, _ = state
            left = group.start + chunk * ENTRIES_PER_CHUNK < group.end
            return jnp.any((transmittance > TRANSMITTANCE_STOP) & left[:, None])

        def read(state: tuple) -> tuple:
            chunk, transmittance, out = state
            c = _read_chunk(tables, bins, group, chunk, transmittance, reference, grid, near)
            constant = jnp.einsum("gef,gep->gfp", c.features, c.weight, precision="highest")
            weighted_m = c.weight * c.m
            varying = [_sum(value) for value in (c.weight * c.pairs.depth, weighted_m, weighted_m * c.m)]
            sums = out.sums + jnp.concatenate([constant, jnp.stack(varying, axis=1)], axis=1)
            return chunk + 1, c.transmittance, Composited(sums, _update_median(out.median_depth, c))

        start = (jnp.int32(0), jnp.ones((size, pixels), dtype), empty)
        chunks, _, out = jax.lax.while_loop(more, read, start)
        return out, chunks

    out, chunks = jax.lax.map(one_group, groups)
    tiles = bins.tile_start.shape[0]
    place = jnp.zeros((tiles,), jnp.int32)
    place = place.at[groups.tile.reshape(-1)].set(jnp.arange(groups.tile.size, dtype=jnp.int32), mode="drop")
    composited = jax.tree.map(lambda value: value.reshape(-1, *value.shape[2:])[place], out)
    return composited, (geometry, features, bins, composited.sums, groups._replace(chunks=chunks))


def _backward(grid: TileGrid, near: float, saved: tuple, cotangent: Composited) -> tuple:
    geometry, features, bins, sums, groups = saved
    tables = _with_empty_row(geometry), _with_empty_row(features)
    width = geometry.shape[1] + features.shape[1]
    total = jnp.sum(sums * cotangent.sums, axis=1)
    basis = jnp.concatenate([jnp.ones((grid.tile**2, 1)), _pixels_of_tile(grid)], axis=-1).astype(geometry.dtype)

    def one_group(rows: Float[Array, "e k"], group: _Group) -> tuple[Array, None]:
        reference = _reference_inverse_depth(tables[0], bins, group)
        # The padding tiles read the last tile's cotangent: they have no entries.
        c_out = cotangent.sums.at[group.tile].get(mode="clip")
        c_total = total.at[group.tile].get(mode="clip")
        origin = _tile_origin(group.tile, grid).astype(geometry.dtype)

        def read(chunk: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            transmittance, passed, rows = state
            c = _read_chunk(tables, bins, group, chunk, transmittance, reference, grid, near)
            gradient, passed = _chunk_gradient(c, c_out, c_total, passed, origin, basis)
            rows = rows.at[c.slot.reshape(-1)].set(gradient.reshape(-1, width), mode="drop", unique_indices=True)
            return c.transmittance, passed, rows

        start = (jnp.ones_like(c_total), jnp.zeros_like(c_total), rows)
        return jax.lax.fori_loop(0, group.chunks, read, start)[2], None

    empty = jnp.zeros((bins.row.shape[0], width), geometry.dtype)
    rows, _ = jax.lax.scan(one_group, empty, groups)
    gradient = sum_entries(rows, bins)
    return gradient[:, : geometry.shape[1]], gradient[:, geometry.shape[1] :], None


composite.defvjp(_forward, _backward)


def _chunk_gradient(
    c: _Chunk,
    c_out: Float[Array, "g f p"],
    c_total: Float[Array, "g p"],
    passed: Float[Array, "g p"],
    origin: Float[Array, "g 2"],
    basis: Float[Array, "p 3"],
) -> tuple[Float[Array, "g e k"], Float[Array, "g p"]]:
    """Gradient row of each entry, and sum of w q up to the end of the chunk. `passed` is that sum before it."""
    c_constant = c_out[:, :-VARYING]
    c_z, c_m, c_m2 = (c_out[:, None, k] for k in range(-VARYING, 0))
    m_q = c_m + c.m * c_m2
    q = jnp.einsum("gef,gfp->gep", c.features, c_constant, precision="highest") + c.pairs.depth * c_z + c.m * m_q
    up_to = _running_sum(passed, c.weight * q)
    alpha = c.pairs.alpha
    behind = (c_total[:, None] - up_to) / (1.0 - alpha)
    d_alpha = jnp.where(c.weight > 0, c.before * q - behind, 0.0)
    # dm / dz = DISTORTION_SCALE / z^2
    d_depth = c.weight * (c_z + (m_q + c.m * c_m2) * (DISTORTION_SCALE / (c.pairs.depth * c.pairs.depth)))
    d_geometry = surfel_pairs.gradient(c.geometry, c.pairs, d_alpha, d_depth, origin, basis)
    d_features = jnp.einsum("gep,gfp->gef", c.weight, c_constant, precision="highest")
    return jnp.concatenate([d_geometry, d_features], axis=-1), up_to[:, -1]


def _read_chunk(
    tables: tuple[Array, Array],
    bins: Bins,
    group: _Group,
    chunk: Int[Array, ""],
    transmittance: Float[Array, "g p"],
    reference: Float[Array, "g"],
    grid: TileGrid,
    near: float,
) -> _Chunk:
    entry = group.start[:, None] + chunk * ENTRIES_PER_CHUNK + jnp.arange(ENTRIES_PER_CHUNK, dtype=jnp.int32)
    valid = entry < group.end[:, None]
    row = jnp.where(valid, bins.row.at[entry].get(mode="clip"), tables[0].shape[0] - 1)
    slot = jnp.where(valid, bins.slot.at[entry].get(mode="clip"), bins.slot.shape[0])
    geometry, features = tables[0][row], tables[1][row]
    origin, pixels = _tile_origin(group.tile, grid), _pixels_of_tile(grid)
    x, y = ((origin[:, None, axis, None] + pixels[:, axis]).astype(geometry.dtype) for axis in (0, 1))
    pairs = surfel_pairs.evaluate(geometry, x, y, near=near)
    before, transmittance = _running_product(transmittance, 1.0 - pairs.alpha)
    after = before * (1.0 - pairs.alpha)
    return _Chunk(
        pairs=pairs,
        geometry=geometry,
        features=features,
        slot=slot,
        before=before,
        weight=jnp.where(after > TRANSMITTANCE_STOP, pairs.alpha * before, 0.0),
        m=DISTORTION_SCALE * (reference[:, None, None] - 1.0 / pairs.depth),
        transmittance=transmittance,
    )


# The functions below unroll a chunk's entries. XLA turns each into one loop over the pixels; on a CPU that is several
# times faster than reductions, and ten times faster than the product as a matrix product of logarithms.


def _update_median(median: Float[Array, "g p"], c: _Chunk) -> Float[Array, "g p"]:
    """Depth of the last entry that contributes and has more than half the light in front of it."""
    in_first_half = (c.weight > 0) & (c.before > 0.5)
    for entry in range(ENTRIES_PER_CHUNK):
        median = jnp.where(in_first_half[:, entry], c.pairs.depth[:, entry], median)
    return median


def _sum(value: Float[Array, "g e p"]) -> Float[Array, "g p"]:
    return functools.reduce(jnp.add, [value[:, entry] for entry in range(ENTRIES_PER_CHUNK)])


def _running_product(start: Float[Array, "g p"], factor: Float[Array, "g e p"]) -> tuple[Array, Float[Array, "g p"]]:
    """Product of everything before each entry, and of everything."""
    before = []
    for entry in range(ENTRIES_PER_CHUNK):
        before.append(start)
        start = start * factor[:, entry]
    return jnp.stack(before, axis=1), start


def _running_sum(start: Float[Array, "g p"], value: Float[Array, "g e p"]) -> Float[Array, "g e p"]:
    """Sum up to and including each entry."""
    up_to = []
    for entry in range(ENTRIES_PER_CHUNK):
        start = start + value[:, entry]
        up_to.append(start)
    return jnp.stack(up_to, axis=1)


def _group_tiles(bins: Bins) -> _Group:
    """Tiles by falling length, TILES_PER_GROUP at a time: a group takes as long as its longest list."""
    tiles = bins.tile_start.shape[0]
    length = bins.tile_end - bins.tile_start
    order = jnp.argsort(-length, stable=True).astype(jnp.int32)
    padding = -tiles % TILES_PER_GROUP
    order = jnp.pad(order, (0, padding), constant_values=tiles)
    start = bins.tile_start.at[order].get(mode="fill", fill_value=0)
    end = bins.tile_end.at[order].get(mode="fill", fill_value=0)
    tile, start, end = (value.reshape(-1, TILES_PER_GROUP) for value in (order, start, end))
    return _Group(tile=tile, start=start, end=end, chunks=jnp.zeros(tile.shape[:1], jnp.int32))


def _with_empty_row(table: Float[Array, "r k"]) -> Float[Array, "s k"]:
    """Zeros, and so an opacity of 0, for reads beyond the end of a list."""
    return jnp.pad(table, ((0, 1), (0, 0)))


def _reference_inverse_depth(geometry: Float[Array, "r 13"], bins: Bins, group: _Group) -> Float[Array, "g"]:
    row = bins.row.at[group.start].get(mode="clip")
    depth = surfel_pairs.split(geometry[row]).depth[:, 0]
    return 1.0 / jnp.where(depth > 0, depth, 1.0)


def _tile_origin(tile: Int[Array, "g"], grid: TileGrid) -> Int[Array, "g 2"]:
    tile = tile % grid.tiles
    return jnp.stack([tile % grid.columns, tile // grid.columns], axis=-1) * grid.tile


def _pixels_of_tile(grid: TileGrid) -> Float[Array, "p 2"]:
    """Pixel centres relative to the tile's corner."""
    index = jnp.arange(grid.tile**2)
    return jnp.stack([index % grid.tile, index // grid.tile], axis=-1) + 0.5
