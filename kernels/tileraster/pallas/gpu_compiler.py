"""What a kernel for GPUs asks of the compiler that takes it, and how plain JAX does that."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from tileraster.tiling.binning import Bins


class Compiler(NamedTuple):
    """What differs between Pallas' two GPU backends."""

    threads: int  # of a block; a tile is cut into strips of so many pixels, one for each thread
    # launch(kernel, out_shape, arguments, tiles=, name=) runs kernel(tile, thread, *arguments, out) for every tile. Its
    # threads have the numbers 0, 1, ...; arguments and out are references to whole arrays.
    launch: Callable[..., Array]
    width: int  # read_row takes rows whose length is a multiple of it
    read_row: Callable[[Any, Array], tuple[Array, ...]]  # read_row(rows, place) begins to read rows[place],
    numbers: Callable[[tuple[Array, ...]], list[Array]]  # and this gives its numbers
    reciprocal: Callable[[Array], Array]
    write_sums: Callable[[Any, Array, list[Array]], None]  # write_sums(out, row, planes): out[row, k] = sum(planes[k])
    write_zeros: Callable[[Any, Array], None]  # write_zeros(out, row): out[row] = 0
    sum_entries: Callable[[Array, Bins], Array]  # as tiling.binning.sum_entries


def scalars_of_row(rows: Any, place: Array) -> tuple[Array, ...]:
    """`Compiler.read_row` in plain JAX."""
    return tuple(rows[place, k] for k in range(rows.shape[1]))


def write_sums_one_by_one(out: Any, row: Array, planes: list[Array]) -> None:
    """`Compiler.write_sums` in plain JAX."""
    for k, plane in enumerate(planes):
        out[row, k] = jnp.sum(plane)


def write_zeros_one_by_one(out: Any, row: Array) -> None:
    """`Compiler.write_zeros` in plain JAX."""
    for k in range(out.shape[1]):
        out[row, k] = 0.0
