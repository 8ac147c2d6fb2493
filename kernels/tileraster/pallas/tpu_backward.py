"""Backward kernel for TPU: the forward kernel's loop again, front to back, and one row of gradients per entry.

The vector unit makes the gradients of each pixel (`entry_pairs.gradient_one`) and stores them. Sums over the pixels
follow after a chunk, for all its entries at once: first over the 8 sublanes, eight entries per register, then over the
128 lanes on the matrix unit, times 1, x and y. The features' part of dL/dw and the features' own gradients are matrix
products as well.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from tileraster.constants import TRANSMITTANCE_STOP
from tileraster.pallas import entry_pairs
from tileraster.pallas.composite import TileCotangents
from tileraster.pallas.entry_lists import EntryGradients, Lists
from tileraster.pallas.entry_pairs import Cotangents, Values
from tileraster.pallas.entry_rows import Moments
from tileraster.pallas.tpu_forward import (
    CHUNK,
    FEATURES,
    LANES,
    ROWS,
    SUBLANES,
    TILE,
    as_splat,
    in_two,
    pixel_planes,
    read_entry,
    reciprocal,
    scalar_rows,
    start_all,
    wait_all,
)

_VALUES = len(Values._fields)
_WITH_Y = 4  # so many values, the first, are also summed times y, and so times the sublane
_BLOCKS = 3  # of 128 lanes = 4 values x 32 entries: first four, first four times the sublane, the others
_MOMENT_ROWS = _BLOCKS * SUBLANES


def backward(
    lists: Lists, cotangents: TileCotangents, *, near: float, unroll: int, interpret: Any = False
) -> EntryGradients:
    """Gradients of every entry; `unroll` as in `tpu_forward.forward`."""
    tiles, channels = cotangents.features.shape[:2]
    padded = -(-channels // FEATURES) * FEATURES
    chunks = lists.rows.shape[0]
    out_rows = _MOMENT_ROWS + 2 * padded
    any_memory = pl.BlockSpec(memory_space=pl.ANY)

    def per_tile(*shape: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, *shape), lambda t, *_: (t,) + (0,) * len(shape))

    out = pl.pallas_call(
        functools.partial(_backward_kernel, near=near, unroll=unroll),
        out_shape=jax.ShapeDtypeStruct((chunks, out_rows, LANES), jnp.float32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(tiles,),
            in_specs=[
                any_memory,
                any_memory,
                per_tile(4, SUBLANES, LANES),
                per_tile(SUBLANES, 3 * padded, LANES),
                per_tile(SUBLANES, 2 * padded, LANES),
            ],
            out_specs=any_memory,
            scratch_shapes=[
                pltpu.SMEM((2, ROWS, LANES), jnp.float32),
                pltpu.VMEM((2, CHUNK, 3 * padded), jnp.bfloat16),
                pltpu.VMEM((2, out_rows, LANES), jnp.float32),
                pltpu.VMEM((out_rows, LANES), jnp.float32),
                pltpu.VMEM((CHUNK * SUBLANES, LANES), jnp.float32),
                pltpu.VMEM((CHUNK * SUBLANES, LANES), jnp.float32),
                pltpu.VMEM((_VALUES * CHUNK * SUBLANES, LANES), jnp.float32),
                pltpu.SemaphoreType.DMA((2,)),
                pltpu.SemaphoreType.DMA((2,)),
                pltpu.SemaphoreType.DMA((2,)),
            ],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), disable_bounds_checks=True),
        interpret=interpret,
        name="splat_backward",
    )(
        lists.first,
        lists.chunks,
        scalar_rows(lists),
        _feature_rows(lists.features, padded),
        jnp.stack(cotangents[1:], axis=1).reshape(tiles, 4, SUBLANES, LANES),
        *_feature_cotangents(cotangents.features, padded),
    )
    return EntryGradients(_moments(out), _feature_gradients(out, channels, padded))


def _backward_kernel(
    first_ref: Any,
    chunks_ref: Any,
    rows_hbm: Any,
    features_hbm: Any,
    cotangents_ref: Any,
    q_right_ref: Any,
    feature_left_ref: Any,
    out_hbm: Any,
    rows: Any,
    features: Any,
    out: Any,
    zeros: Any,
    constant: Any,
    weights: Any,
    values: Any,
    rows_arrived: Any,
    features_arrived: Any,
    out_left: Any,
    *,
    near: float,
    unroll: int,
) -> None:
    tile = pl.program_id(0)
    first, chunks = first_ref[tile], chunks_ref[tile]
    x, y = pixel_planes()
    cotangents = Cotangents(*(cotangents_ref[k] for k in range(4)))
    zeros[...] = jnp.zeros_like(zeros)

    def copies(chunk: Array) -> list[Any]:
        slot = jax.lax.rem(chunk, 2)
        return [
            pltpu.make_async_copy(rows_hbm.at[first + chunk], rows.at[slot], rows_arrived.at[slot]),
            pltpu.make_async_copy(features_hbm.at[first + chunk], features.at[slot], features_arrived.at[slot]),
        ]

    def write(chunk: Array) -> Any:
        slot = jax.lax.rem(chunk, 2)
        return pltpu.make_async_copy(out.at[slot], out_hbm.at[first + chunk], out_left.at[slot])

    def read_chunk(state: tuple) -> tuple:
        chunk, _, transmittance, up_to = state
        slot = jax.lax.rem(chunk, 2)
        pl.when(chunk + 1 < chunks)(lambda: start_all(copies(chunk + 1)))
        wait_all(copies(chunk))
        reference = as_splat(read_entry(rows, slot, jnp.int32(0), 0, unroll=CHUNK)).reference
        for sublane in range(SUBLANES):
            constant[pl.ds(sublane, CHUNK, stride=SUBLANES), :] = jnp.dot(
                features[slot], q_right_ref[sublane], preferred_element_type=jnp.float32
            )

        def read_row(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            transmittance, up_to = state
            for entry in range(unroll):
                start = pl.multiple_of((j * unroll + entry) * SUBLANES, SUBLANES)
                place = pl.ds(start, SUBLANES)
                row = as_splat(read_entry(rows, slot, j, entry, unroll=unroll))
                pair = entry_pairs.evaluate(row, x, y, near=near, reciprocal=reciprocal)
                one = entry_pairs.gradient_one(
                    pair, reference, transmittance, up_to, constant[place, :], cotangents, reciprocal=reciprocal
                )
                weights[place, :] = one.weight
                for k, value in enumerate(one.values):
                    values[pl.ds(k * CHUNK * SUBLANES + start, SUBLANES), :] = value
                transmittance, up_to = one.transmittance, one.up_to
            return transmittance, up_to

        transmittance, up_to = jax.lax.fori_loop(0, CHUNK // unroll, read_row, (transmittance, up_to))
        pl.when(chunk >= 2)(lambda: write(chunk - 2).wait())
        _sum_moments(values, out, slot)
        _sum_features(weights, feature_left_ref, out, slot)
        write(chunk).start()
        return chunk + 1, jnp.max(transmittance) > TRANSMITTANCE_STOP, transmittance, up_to

    pl.when(chunks > 0)(lambda: start_all(copies(jnp.int32(0))))
    zero = jnp.zeros((SUBLANES, LANES), jnp.float32)
    start = (jnp.int32(0), jnp.bool_(True), zero + 1.0, zero)
    read = jax.lax.while_loop(lambda state: (state[0] < chunks) & state[1], read_chunk, start)[0]
    # After an early stop the next chunk is still on its way.
    pl.when(read < chunks)(lambda: wait_all(copies(read)))
    for behind in (2, 1):
        pl.when(read >= behind)(lambda behind=behind: write(read - behind).wait())

    def write_zeros(chunk: Array, _: Array) -> Array:
        copy = pltpu.make_async_copy(zeros, out_hbm.at[first + chunk], out_left.at[0])
        copy.start()
        copy.wait()
        return _

    jax.lax.fori_loop(read, chunks, write_zeros, jnp.int32(0))


def _sum_moments(values: Any, out: Any, slot: Array) -> None:
    """Moments of a chunk: [1, x, y within the sublane] along the rows, (value, entry) along the lanes."""
    plain, times_sublane = [], []
    for k in range(_VALUES):
        first = k * CHUNK * SUBLANES
        of_sublane = [values[pl.ds(first + s, CHUNK, stride=SUBLANES), :] for s in range(SUBLANES)]
        running = weighted = of_sublane[-1]
        for s in range(SUBLANES - 2, 0, -1):
            running = running + of_sublane[s]
            weighted = weighted + running  # in the end each sublane s has been added s times
        plain.append(running + of_sublane[0])
        times_sublane.append(weighted)
    blocks = plain[:_WITH_Y], times_sublane[:_WITH_Y], plain[_WITH_Y:]
    basis = _lane_basis()
    for block, parts in enumerate(blocks):
        right = jnp.concatenate(parts, axis=0)
        high, low = (_times_transposed(basis, part.astype(jnp.bfloat16)) for part in in_two(right))
        out[slot, block * SUBLANES : (block + 1) * SUBLANES, : right.shape[0]] = (high + low)[:SUBLANES]


def _sum_features(weights: Any, left_ref: Any, out: Any, slot: Array) -> None:
    """Gradients of a chunk's features: cotangents times weights. Products of the parts lie in separate places."""
    total = None
    for sublane in range(SUBLANES):
        right = jnp.concatenate(in_two(weights[pl.ds(sublane, CHUNK, stride=SUBLANES), :]), axis=0)
        product = _times_transposed(left_ref[sublane], right.astype(jnp.bfloat16))
        total = product if total is None else total + product
    out[slot, _MOMENT_ROWS:, : 2 * CHUNK] = total


def _times_transposed(left: Array, right: Array) -> Array:
    return jax.lax.dot_general(left, right, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def _lane_basis() -> Float[Array, "16 128"]:
    """Rows 1, x, y of the lanes, relative to the middle of the tile and of the sublane; exact in bfloat16."""
    row = jax.lax.broadcasted_iota(jnp.int32, (FEATURES, LANES), 0)
    lane = jax.lax.broadcasted_iota(jnp.int32, (FEATURES, LANES), 1)
    x = (lane % TILE).astype(jnp.float32) + (0.5 - TILE / 2)
    y = (lane // TILE).astype(jnp.float32) + (0.5 - LANES / TILE / 2)
    basis = jnp.where(row == 0, 1.0, jnp.where(row == 1, x, jnp.where(row == 2, y, 0.0)))
    return basis.astype(jnp.bfloat16)


def _moments(out: Float[Array, "k r 128"]) -> Moments:
    blocks = out[:, :_MOMENT_ROWS].reshape(-1, _BLOCKS, SUBLANES, LANES // CHUNK, CHUNK)
    plain, times_sublane, others = (blocks[:, block] for block in range(_BLOCKS))
    height = LANES // TILE
    y = plain[:, 2] + height * (times_sublane[:, 0] - (SUBLANES - 1) / 2 * plain[:, 0])
    with_y = jnp.stack([plain[:, 0], plain[:, 1], y], axis=-1)
    return Moments(*(with_y[:, k] for k in range(_WITH_Y)), *(others[:, 0, k] for k in range(_VALUES - _WITH_Y)))


def _feature_gradients(out: Float[Array, "k r 128"], channels: int, padded: int) -> Float[Array, "k e f"]:
    products = out[:, _MOMENT_ROWS:, : 2 * CHUNK].reshape(-1, 2, padded, 2, CHUNK)
    return jnp.swapaxes(jnp.sum(products, axis=(1, 3))[:, :channels], 1, 2)


def _feature_rows(features: Float[Array, "k e f"], padded: int) -> Array:
    """Left factors for dL/dw: [high | high | low] of the features, entries along the sublanes."""
    rows = jnp.pad(features, ((0, 0), (0, 0), (0, padded - features.shape[-1])))
    high, low = in_two(rows)
    return jnp.concatenate([high, high, low], axis=-1).astype(jnp.bfloat16)


def _feature_cotangents(cotangent: Float[Array, "t f p"], padded: int) -> tuple[Array, Array]:
    """Right factors for dL/dw, [high; low; high], and left factors for the features' gradients, [high; low]."""
    tiles, channels = cotangent.shape[:2]
    split = jnp.pad(cotangent, ((0, 0), (0, padded - channels), (0, 0)))
    split = split.reshape(tiles, padded, SUBLANES, LANES).swapaxes(1, 2)
    high, low = in_two(split)
    right, left = jnp.concatenate([high, low, high], axis=2), jnp.concatenate([high, low], axis=2)
    return right.astype(jnp.bfloat16), left.astype(jnp.bfloat16)
