"""Forward kernel for TPU: one tile of 32 x 32 pixels is one vector register, compositing runs on the vector unit.

The numbers of a chunk of entries come by DMA into scalar memory, double-buffered, and are broadcast. The features of an
entry (colour, normal) are the same at all its pixels. The matrix unit sums them: the weights of a chunk go to memory,
and one matrix product per chunk and eighth of a tile adds them up. So the vector unit spends nothing on channels,
however many there are. Matrix products take bfloat16. Each factor is split in two, high + low, and the three products
that matter lie side by side in the inner dimension, which leaves a relative error of 2^-17.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from tileraster.constants import TRANSMITTANCE_STOP
from tileraster.pallas import entry_pairs
from tileraster.pallas.composite import TileSums
from tileraster.pallas.entry_lists import Lists
from tileraster.pallas.entry_rows import PIXEL_SCALE, ROW, EntryRow

TILE = 32
CHUNK = 32
SUBLANES, LANES = 8, 128  # of a vector register: 8 x 128 = 32 x 32 pixels
ENTRIES_PER_ROW = LANES // ROW
ROWS = CHUNK // ENTRIES_PER_ROW  # of a chunk, 128 numbers each
FEATURES = 16  # rows of a bfloat16 tile: features are padded to a multiple
_PLANES = 5


class PixelPlanes(NamedTuple):
    x: Float[Array, "8 128"]
    y: Float[Array, "8 128"]


def forward(lists: Lists, *, near: float, unroll: int, overlap: bool = False, interpret: Any = False) -> TileSums:
    """Composite every tile.

    Args:
      unroll: entries per iteration of the inner loop, a divisor of 32.
      overlap: add up the features of a chunk while the next one is read, so that the matrix unit works beside the
        vector unit; `unroll` must then be 4 at least.
    """
    tiles, channels = lists.first.shape[0], lists.features.shape[-1]
    padded = -(-channels // FEATURES) * FEATURES
    sums, planes = pl.pallas_call(
        functools.partial(_forward_kernel, near=near, unroll=unroll, overlap=overlap),
        out_shape=(
            jax.ShapeDtypeStruct((tiles, SUBLANES, padded, LANES), jnp.float32),
            jax.ShapeDtypeStruct((tiles, _PLANES, SUBLANES, LANES), jnp.float32),
        ),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(tiles,),
            in_specs=[pl.BlockSpec(memory_space=pl.ANY), pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=(
                pl.BlockSpec((None, SUBLANES, padded, LANES), lambda t, *_: (t, 0, 0, 0)),
                pl.BlockSpec((None, _PLANES, SUBLANES, LANES), lambda t, *_: (t, 0, 0, 0)),
            ),
            scratch_shapes=[
                pltpu.SMEM((2, ROWS, LANES), jnp.float32),
                pltpu.VMEM((2 + overlap, padded, LANES), jnp.bfloat16),
                pltpu.VMEM((1 + overlap, CHUNK * SUBLANES, LANES), jnp.float32),
                pltpu.SemaphoreType.DMA((2,)),
                pltpu.SemaphoreType.DMA((2 + overlap,)),
            ],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), disable_bounds_checks=True),
        interpret=interpret,
        name="splat_forward",
    )(lists.first, lists.chunks, scalar_rows(lists), _feature_columns(lists.features, padded))
    planes = planes.reshape(tiles, _PLANES, TILE * TILE)
    sums = sums.transpose(0, 2, 1, 3).reshape(tiles, padded, TILE * TILE)[:, :channels]
    return TileSums(sums, *(planes[:, k] for k in range(_PLANES)))


def _forward_kernel(
    first_ref: Any,
    chunks_ref: Any,
    rows_hbm: Any,
    features_hbm: Any,
    sums_ref: Any,
    planes_ref: Any,
    rows: Any,
    features: Any,
    weights: Any,
    rows_arrived: Any,
    features_arrived: Any,
    *,
    near: float,
    unroll: int,
    overlap: bool,
) -> None:
    tile = pl.program_id(0)
    share = SUBLANES * unroll // CHUNK  # sublanes whose features one iteration adds up
    first, chunks = first_ref[tile], chunks_ref[tile]
    x, y = pixel_planes()
    sums_ref[...] = jnp.zeros_like(sums_ref)

    if overlap:  # before the first chunk comes one of weight 0
        weights[1] = jnp.zeros_like(weights[1])
        features[2] = jnp.zeros_like(features[2])

    def features_slot(chunk: Array) -> Array:
        return jax.lax.rem(chunk + 3, 3) if overlap else jax.lax.rem(chunk, 2)  # chunk may be -1

    def weights_slot(chunk: Array) -> Array:
        return jax.lax.rem(chunk + 2, 2) if overlap else jnp.int32(0)

    def copies(chunk: Array) -> list[Any]:
        slot, place = jax.lax.rem(chunk, 2), features_slot(chunk)
        return [
            pltpu.make_async_copy(rows_hbm.at[first + chunk], rows.at[slot], rows_arrived.at[slot]),
            pltpu.make_async_copy(features_hbm.at[first + chunk], features.at[place], features_arrived.at[place]),
        ]

    def add_features(chunk: Array, sublanes: Iterable[Any]) -> None:
        left = features[features_slot(chunk)][:, : 3 * CHUNK]
        for sublane in sublanes:
            high, low = in_two(weights[weights_slot(chunk), pl.ds(pl.multiple_of(sublane * CHUNK, CHUNK), CHUNK), :])
            right = jnp.concatenate([high, low, high], axis=0).astype(jnp.bfloat16)
            sums_ref[sublane] += jnp.dot(left, right, preferred_element_type=jnp.float32)

    def read_chunk(state: tuple) -> tuple:
        chunk, _, passed = state
        slot = jax.lax.rem(chunk, 2)
        pl.when(chunk + 1 < chunks)(lambda: start_all(copies(chunk + 1)))
        wait_all(copies(chunk))
        reference = as_splat(read_entry(rows, slot, jnp.int32(0), 0, unroll=CHUNK)).reference

        def read_row(j: Array, passed: entry_pairs.Passed) -> entry_pairs.Passed:
            if overlap:
                add_features(chunk - 1, [j * share + k for k in range(share)])
            for entry in range(unroll):
                row = as_splat(read_entry(rows, slot, j, entry, unroll=unroll))
                pair = entry_pairs.evaluate(row, x, y, near=near, reciprocal=reciprocal)
                passed, weight = entry_pairs.composite_one(pair, passed, reference)
                weights[weights_slot(chunk), pl.ds(j * unroll + entry, SUBLANES, stride=CHUNK), :] = weight
            return passed

        passed = jax.lax.fori_loop(0, CHUNK // unroll, read_row, passed)
        if not overlap:
            add_features(chunk, range(SUBLANES))
        return chunk + 1, jnp.max(passed.transmittance) > TRANSMITTANCE_STOP, passed

    pl.when(chunks > 0)(lambda: start_all(copies(jnp.int32(0))))
    start = (jnp.int32(0), jnp.bool_(True), entry_pairs.nothing_passed(jnp.zeros((SUBLANES, LANES), jnp.float32)))
    chunk, _, passed = jax.lax.while_loop(lambda state: (state[0] < chunks) & state[1], read_chunk, start)
    if overlap:
        add_features(chunk - 1, range(SUBLANES))
    # After an early stop the next chunk is still on its way.
    pl.when(chunk < chunks)(lambda: wait_all(copies(chunk)))
    for plane, value in enumerate(passed[1:]):
        planes_ref[plane] = value


def start_all(copies: list[Any]) -> None:
    for copy in copies:
        copy.start()


def wait_all(copies: list[Any]) -> None:
    for copy in copies:
        copy.wait()


def read_entry(rows: Any, slot: Array, iteration: Array, entry: int, *, unroll: int) -> list[Array]:
    """The numbers of an entry of an iteration of `unroll`. What is not used is not loaded."""
    if unroll % ENTRIES_PER_ROW == 0:  # offsets within a line are then known to the compiler
        line, start = iteration * (unroll // ENTRIES_PER_ROW) + entry // ENTRIES_PER_ROW, entry % ENTRIES_PER_ROW * ROW
    else:
        line, start = divmod(iteration * unroll + entry, ENTRIES_PER_ROW)
        start = start * ROW
    return [rows[slot, line, start + k] for k in range(ROW)]


def as_splat(numbers: list[Array]) -> EntryRow:
    return EntryRow(*numbers[: len(EntryRow._fields)])


def reciprocal(value: Array) -> Array:
    """The hardware's estimate and one step of Newton's method: more than 15 bits even if the estimate has only 8."""
    estimate = pl.reciprocal(value, approx=True)
    return estimate * (2.0 - value * estimate)


def pixel_planes() -> PixelPlanes:
    """Scaled pixel centres relative to the middle of the tile; a register holds the tile row by row."""
    lane = jax.lax.broadcasted_iota(jnp.int32, (SUBLANES, LANES), 1)
    sublane = jax.lax.broadcasted_iota(jnp.int32, (SUBLANES, LANES), 0)
    x = (lane % TILE).astype(jnp.float32) + (0.5 - TILE / 2)
    y = (sublane * (LANES // TILE) + lane // TILE).astype(jnp.float32) + (0.5 - TILE / 2)
    return PixelPlanes(PIXEL_SCALE * x, PIXEL_SCALE * y)


class TwoParts(NamedTuple):
    """A float32 number as high + low; as two bfloat16 numbers they still are the number up to 2^-17 of it."""

    high: Array
    low: Array


def in_two(value: Float[Array, "*n"]) -> TwoParts:
    # Rounded by hand: XLA may take a conversion to bfloat16 and back for the identity.
    bits = jax.lax.bitcast_convert_type(value, jnp.int32)
    high = jax.lax.bitcast_convert_type((bits + (1 << 15)) & jnp.int32(-(1 << 16)), jnp.float32)
    return TwoParts(high, value - high)


def scalar_rows(lists: Lists) -> Float[Array, "k 4 128"]:
    return lists.rows.reshape(-1, ROWS, LANES)


def _feature_columns(features: Float[Array, "k e f"], padded: int) -> Array:
    """Left factors of the chunks' matrix products: [high | high | low] of the features, entries along the lanes."""
    columns = jnp.swapaxes(features, 1, 2)
    columns = jnp.pad(columns, ((0, 0), (0, padded - columns.shape[1]), (0, 0)))
    high, low = in_two(columns)
    left = jnp.concatenate([high, high, low], axis=-1).astype(jnp.bfloat16)
    return jnp.pad(left, ((0, 0), (0, 0), (0, LANES - 3 * CHUNK)))
