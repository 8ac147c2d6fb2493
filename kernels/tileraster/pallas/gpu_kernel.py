"""The kernels for GPUs: one block of threads composites a tile, or makes the gradients of its entries.

A block reads the numbers of an entry where the primitive has them, one entry ahead. Neither of Pallas' compilers leaves
a loop early on a condition over pixels without trouble. A list ends early all the same: the chunks that follow get no
entries.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float, Int

from tileraster.constants import TRANSMITTANCE_STOP
from tileraster.pallas import entry_pairs
from tileraster.pallas.entry_pairs import Cotangents, Values
from tileraster.pallas.entry_rows import PIXEL_SCALE, EntryRow
from tileraster.pallas.gpu_compiler import Compiler
from tileraster.tiling.binning import TileGrid

# Sums of an entry over the pixels of a tile: a, b and g times 1, x and y; the filter's times x and y; the other three.
MOMENTS = 3 * 3 + 2 + 3


class Work(NamedTuple):
    """What is the same for all tiles."""

    constants: int  # features but the last, which is 1
    chunk: int  # entries of one: between two it is asked whether a pixel takes more light
    grid: TileGrid
    near: float
    compiler: Compiler


class Strip(NamedTuple):
    """The pixel of each thread: scaled coordinates from the image's corner, and where it is in the tile's planes."""

    x: Float[Array, "p"]
    y: Float[Array, "p"]
    pixels: Any


class Table(NamedTuple):
    """References to what a kernel reads of the primitives: a tile's entries are `rows[row_index[start:end]]`."""

    start: Any
    end: Any
    row_index: Any  # by entry
    rows: Any  # EntryRow, then features


class Entry(NamedTuple):
    """What has been read of an entry: its row, and the index of the next one's, so that nobody waits for either."""

    read: tuple[Array, ...]
    next_row: Int[Array, ""]


class EntryNumbers(NamedTuple):
    """What has arrived of an entry."""

    row: EntryRow
    features: list[Array]


class LightLeft(NamedTuple):
    """Of the pixels of a strip, between two entries of the backward pass."""

    transmittance: Float[Array, "p"]
    up_to: Float[Array, "p"]  # see entry_pairs.gradient_one


class Entries(NamedTuple):
    """Some of a tile's entries, from the first to before the last."""

    start: Int[Array, ""]
    end: Int[Array, ""]


class Beginning(NamedTuple):
    """What both kernels need before their first entry."""

    strips: list[Strip]
    entries: Entries
    first: Entry
    reference: Array  # inverse depth of the first entry, which m is relative to


def composite_tile(tile: Array, thread: Array, *references: Any, work: Work) -> None:
    """Composite the tile of a block; `out` gets its planes: constant features, then the rest of `Passed`."""
    *table, out = references
    table, constants, compiler = Table(*table), work.constants, work.compiler
    strips, entries, first_entry, reference = _begin(tile, thread, table, work)

    def read_entry(index: Array, state: tuple) -> tuple:
        entry, states = state
        row, features = _numbers(entry, constants, compiler)
        entry = _next_entry(table, entry, index, compiler)
        found = []
        for strip, (passed, sums) in zip(strips, states, strict=True):
            pair = entry_pairs.evaluate(row, strip.x, strip.y, near=work.near, reciprocal=compiler.reciprocal)
            passed, weight = entry_pairs.composite_one(pair, passed, reference)
            added = tuple(value + weight * feature for value, feature in zip(sums, features, strict=True))
            found.append((passed, added))
        return entry, tuple(found)

    def read_chunk(chunk: Array, state: tuple) -> tuple:
        alive, *rest = state
        first, last = _chunk(entries, chunk, work.chunk, alive)
        entry, states = jax.lax.fori_loop(first, last, read_entry, tuple(rest))
        return _any_left([passed.transmittance for passed, _ in states]), entry, states

    zeros = [0.0 * strip.x for strip in strips]
    states = tuple((entry_pairs.nothing_passed(zero), (zero,) * constants) for zero in zeros)
    state = (jnp.bool_(True), first_entry, states)
    *_, states = jax.lax.fori_loop(0, _chunks(entries, work.chunk), read_chunk, state)
    for strip, (passed, sums) in zip(strips, states, strict=True):
        for k, value in enumerate((*sums, *passed[1:])):
            out[tile, k, strip.pixels] = value


def differentiate_tile(tile: Array, thread: Array, *references: Any, work: Work) -> None:
    """Write the sums of each entry of a tile, `_summands`, into its slot of `out`: 0 where no light is left."""
    *table, slots, cotangents_ref, out = references
    table, constants, compiler = Table(*table), work.constants, work.compiler
    strips, entries, first_entry, reference = _begin(tile, thread, table, work)
    given = [[cotangents_ref[tile, k, strip.pixels] for k in range(constants + 5)] for strip in strips]

    def read_entry(index: Array, state: tuple) -> tuple:
        entry, states = state
        slot = slots[index]
        numbers = _numbers(entry, constants, compiler)
        entry = _next_entry(table, entry, index, compiler)
        found, summands = [], []
        for strip, cotangents, before in zip(strips, given, states, strict=True):
            parts, after = _differentiate_pairs(numbers, strip, cotangents, before, reference, work)
            summands.append(parts)
            found.append(after)
        of_threads = [functools.reduce(jnp.add, parts) for parts in zip(*summands, strict=True)]
        compiler.write_sums(out, slot, of_threads)
        return entry, tuple(found)

    def read_chunk(chunk: Array, state: tuple) -> tuple:
        reached, alive, *rest = state
        first, last = _chunk(entries, chunk, work.chunk, alive)
        entry, states = jax.lax.fori_loop(first, last, read_entry, tuple(rest))
        return jnp.where(alive, last, reached), _any_left([left.transmittance for left in states]), entry, states

    def write_zeros(index: Array, _: Array) -> Array:
        compiler.write_zeros(out, slots[index])
        return _

    zeros = [0.0 * strip.x for strip in strips]
    state = (entries.start, jnp.bool_(True), first_entry, tuple(LightLeft(zero + 1.0, zero) for zero in zeros))
    reached = jax.lax.fori_loop(0, _chunks(entries, work.chunk), read_chunk, state)[0]
    jax.lax.fori_loop(reached, entries.end, write_zeros, jnp.int32(0))


def _differentiate_pairs(
    numbers: EntryNumbers, strip: Strip, cotangents: list[Array], before: LightLeft, reference: Array, work: Work
) -> tuple[list[Array], LightLeft]:
    """What an entry adds to its sums at each pixel of a strip, and what it leaves to the entries behind it."""
    row, features = numbers
    *of_features, of_alpha, depth, m, m2, total = cotangents
    reciprocal = work.compiler.reciprocal
    pair = entry_pairs.evaluate(row, strip.x, strip.y, near=work.near, reciprocal=reciprocal)
    products = [value * by for value, by in zip(features, of_features, strict=True)]
    one = entry_pairs.gradient_one(
        pair,
        reference,
        before.transmittance,
        before.up_to,
        functools.reduce(jnp.add, products, of_alpha),
        Cotangents(depth, m, m2, total),
        reciprocal=reciprocal,
    )
    after = LightLeft(one.transmittance, one.up_to)
    return _summands(one.values, row, strip) + [one.weight * value for value in of_features], after


def _summands(values: Values, row: EntryRow, strip: Strip) -> list[Array]:
    """What is summed over the pixels: see `gpu._moments`."""
    dx, dy = strip.x - row.center_x, strip.y - row.center_y
    disc = [part for value in values[:3] for part in (value, value * dx, value * dy)]
    filtered = [values.filtered * (strip.x - row.filter_x), values.filtered * (strip.y - row.filter_y)]
    return [*disc, *filtered, *values[4:]]


def _begin(tile: Int[Array, ""], thread: Int[Array, "p"], table: Table, work: Work) -> Beginning:
    strips = _strips(tile, thread, work.grid, work.compiler.threads)
    entries = Entries(table.start[tile], table.end[tile])
    first = _first_entry(table, entries.start, work.compiler)
    # The distortion depends on differences of m only.
    return Beginning(strips, entries, first, _numbers(first, work.constants, work.compiler).row.g_0)


def _chunks(entries: Entries, size: int) -> Int[Array, ""]:
    """How many chunks the entries fill."""
    return jax.lax.div(entries.end - entries.start + (size - 1), jnp.int32(size))


def _chunk(entries: Entries, chunk: Int[Array, ""], size: int, alive: Bool[Array, ""]) -> Entries:
    """The entries of a chunk; there are none if no pixel takes more light."""
    first = entries.start + chunk * size
    return Entries(first, jnp.where(alive, jnp.minimum(first + size, entries.end), first))


def _any_left(transmittances: list[Float[Array, "p"]]) -> Bool[Array, ""]:
    """Whether a pixel of any strip takes more light."""
    return jnp.max(functools.reduce(jnp.maximum, transmittances)) > TRANSMITTANCE_STOP


def _first_entry(table: Table, start: Int[Array, ""], compiler: Compiler) -> Entry:
    """Begin to read the first entry of a tile."""
    return Entry(compiler.read_row(table.rows, _row_of(table, start)), _row_of(table, start + 1))


def _next_entry(table: Table, entry: Entry, index: Int[Array, ""], compiler: Compiler) -> Entry:
    """Begin to read the entry after `index`, whose own numbers are there."""
    return Entry(compiler.read_row(table.rows, entry.next_row), _row_of(table, index + 2))


def _row_of(table: Table, index: Int[Array, ""]) -> Int[Array, ""]:
    """Index of an entry's row. Behind the last entry any will do."""
    index = jnp.minimum(index, table.row_index.shape[0] - 1)
    return jnp.minimum(table.row_index[index], table.rows.shape[0] - 1)


def _numbers(entry: Entry, constants: int, compiler: Compiler) -> EntryNumbers:
    numbers, count = compiler.numbers(entry.read), len(EntryRow._fields)
    return EntryNumbers(EntryRow(*numbers[:count]), numbers[count : count + constants])


def _strips(tile: Int[Array, ""], thread: Int[Array, "p"], grid: TileGrid, threads: int) -> list[Strip]:
    """Of a tile; tiles are flat over images."""
    tile_x = jax.lax.rem(tile, jnp.int32(grid.columns))
    tile_y = jax.lax.rem(jax.lax.div(tile, jnp.int32(grid.columns)), jnp.int32(grid.rows))

    def scaled(inside: Array, corner: Array) -> Array:
        return PIXEL_SCALE * (inside.astype(jnp.float32) + (corner.astype(jnp.float32) + 0.5))

    strips = []
    for first in range(0, grid.tile**2, threads):
        pixel = thread + first
        x, y = scaled(pixel % grid.tile, tile_x * grid.tile), scaled(pixel // grid.tile, tile_y * grid.tile)
        strips.append(Strip(x, y, pl.ds(first, threads)))
    return strips
