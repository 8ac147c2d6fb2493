"""Kernels for GPUs: one block of threads per tile. Pallas' two GPU backends share them and differ in the launch alone.

Neither backend leaves a loop early on a condition over pixels without trouble. A list ends early all the same: the
chunks that follow get no entries.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tileraster.constants import TRANSMITTANCE_STOP
from tileraster.pallas import entry_pairs
from tileraster.pallas.composite import EntryGradients, Lists, TileCotangents, TileSums
from tileraster.pallas.entry_pairs import Cotangents, Passed, Values
from tileraster.pallas.entry_rows import PIXEL_SCALE, ROW, EntryRow, Moments

_WITH_XY = 4  # so many values, the first, are also summed times x and y
_SUMS = len(Values._fields) + 2 * _WITH_XY


class TilePixels(NamedTuple):
    """Pixel centres relative to the middle of the tile, row by row."""

    x: Float[Array, "p"]
    y: Float[Array, "p"]


# launch(kernel, out_shape, arguments, tiles=, side=, name=) runs kernel(tile, pixels, *arguments, out) for every tile
# of `side` x `side` pixels, with references to whole arrays.
Launch = Callable[..., Array]


def forward(lists: Lists, *, side: int, near: float, launch: Launch) -> TileSums:
    """Composite every tile of `side` x `side` pixels."""
    tiles, (chunk, channels) = lists.first.shape[0], lists.features.shape[-2:]
    planes = len(Passed._fields) - 1 + channels
    out = launch(
        functools.partial(_forward_kernel, channels=channels, chunk=chunk, near=near),
        jax.ShapeDtypeStruct((tiles, planes, side * side), jnp.float32),
        [lists.first, lists.chunks, lists.rows.reshape(-1, ROW), lists.features.reshape(-1, channels)],
        tiles=tiles,
        side=side,
        name="splat_forward",
    )
    return TileSums(out[:, :channels], *(out[:, k] for k in range(channels, planes)))


def backward(lists: Lists, cotangents: TileCotangents, *, side: int, near: float, launch: Launch) -> EntryGradients:
    """Gradients of every entry."""
    tiles, channels = cotangents.features.shape[:2]
    varying = jnp.stack(cotangents[1:], axis=1)
    chunks, chunk = lists.rows.shape[:2]
    out = launch(
        functools.partial(_backward_kernel, channels=channels, chunk=chunk, near=near),
        jax.ShapeDtypeStruct((chunks * chunk, _SUMS + channels), jnp.float32),
        [
            lists.first,
            lists.chunks,
            lists.rows.reshape(-1, ROW),
            lists.features.reshape(-1, channels),
            jnp.concatenate([cotangents.features, varying], axis=1),
        ],
        tiles=tiles,
        side=side,
        name="splat_backward",
    )
    out = out.reshape(chunks, chunk, _SUMS + channels)
    with_xy = out[..., : 3 * _WITH_XY].reshape(chunks, chunk, _WITH_XY, 3)
    moments = Moments(*(with_xy[:, :, k] for k in range(_WITH_XY)), *(out[..., k] for k in range(3 * _WITH_XY, _SUMS)))
    return EntryGradients(moments, out[..., _SUMS:])


def _forward_kernel(
    tile: Array,
    pixels: TilePixels,
    first_ref: Any,
    chunks_ref: Any,
    rows: Any,
    features: Any,
    out: Any,
    *,
    channels: int,
    chunk: int,
    near: float,
) -> None:
    x, y = pixels
    zero = 0.0 * x
    start = first_ref[tile] * chunk

    def read_entry(entry: Array, state: tuple) -> tuple:
        passed, sums = state
        row = _read_row(rows, entry)
        pair = entry_pairs.evaluate(row, PIXEL_SCALE * x, PIXEL_SCALE * y, near=near, reciprocal=_reciprocal)
        passed, weight = entry_pairs.composite_one(pair, passed, row.reference)
        return passed, tuple(value + weight * features[entry, k] for k, value in enumerate(sums))

    def read_chunk(number: Array, state: tuple) -> tuple:
        alive, *rest = state
        entry = start + number * chunk
        passed, sums = jax.lax.fori_loop(entry, jnp.where(alive, entry + chunk, entry), read_entry, tuple(rest))
        return jnp.max(passed.transmittance) > TRANSMITTANCE_STOP, passed, sums

    state = (jnp.bool_(True), entry_pairs.nothing_passed(zero), (zero,) * channels)
    _, passed, sums = jax.lax.fori_loop(0, chunks_ref[tile], read_chunk, state)
    for k, value in enumerate((*sums, *passed[1:])):
        out[tile, k, :] = value


def _backward_kernel(
    tile: Array,
    pixels: TilePixels,
    first_ref: Any,
    chunks_ref: Any,
    rows: Any,
    features: Any,
    cotangents_ref: Any,
    out: Any,
    *,
    channels: int,
    chunk: int,
    near: float,
) -> None:
    x, y = pixels
    zero = 0.0 * x
    start = first_ref[tile] * chunk
    of_features = [cotangents_ref[tile, k, :] for k in range(channels)]
    cotangents = Cotangents(*(cotangents_ref[tile, channels + k, :] for k in range(4)))

    def read_entry(entry: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        row = _read_row(rows, entry)
        pair = entry_pairs.evaluate(row, PIXEL_SCALE * x, PIXEL_SCALE * y, near=near, reciprocal=_reciprocal)
        constant = sum((features[entry, k] * value for k, value in enumerate(of_features)), zero)
        one = entry_pairs.gradient_one(pair, row.reference, *state, constant, cotangents, reciprocal=_reciprocal)
        summands = [value * by for value in one.values[:_WITH_XY] for by in (1.0, x, y)]
        summands += [*one.values[_WITH_XY:], *(one.weight * value for value in of_features)]
        for k, value in enumerate(summands):
            out[entry, k] = jnp.sum(value)
        return one.transmittance, one.up_to

    def read_chunk(number: Array, state: tuple) -> tuple:
        read, alive, *rest = state
        entry = start + number * chunk
        end = jnp.where(alive, entry + chunk, entry)
        transmittance, up_to = jax.lax.fori_loop(entry, end, read_entry, tuple(rest))
        return jnp.where(alive, number + 1, read), jnp.max(transmittance) > TRANSMITTANCE_STOP, transmittance, up_to

    def write_zeros(entry: Array, _: Array) -> Array:
        for k in range(_SUMS + channels):
            out[entry, k] = 0.0
        return _

    chunks = chunks_ref[tile]
    state = (jnp.int32(0), jnp.bool_(True), zero + 1.0, zero)
    read = jax.lax.fori_loop(0, chunks, read_chunk, state)[0]
    jax.lax.fori_loop(start + read * chunk, start + chunks * chunk, write_zeros, jnp.int32(0))


def _read_row(rows: Any, entry: Array) -> EntryRow:
    return EntryRow(*(rows[entry, k] for k in range(len(EntryRow._fields))))


def _reciprocal(value: Array) -> Array:
    return 1.0 / value


def pixels_of(index: Array, *, side: int) -> TilePixels:
    """Of pixel numbers."""
    return TilePixels(*(value.astype(jnp.float32) + (0.5 - side / 2) for value in (index % side, index // side)))
