"""GPU kernels through Pallas' Triton backend: the faster one, and the only one for Ampere and earlier.

JAX will remove this backend. Then this file goes, with its lines in `kernels.gpu_kernels`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from tileraster.pallas import gpu_compiler
from tileraster.pallas.gpu_compiler import Compiler
from tileraster.tiling.binning import Bins

_WARP = 32
_ROWS, _ROW_WARPS = 32, 4  # primitives of a block that sums entries, and its warps


def compiler(*, warps: int, interpret: bool = False) -> Compiler:
    """`warps` share a tile. A single one sums over its pixels in far fewer steps than several."""
    launch = functools.partial(_launch, threads=_WARP * warps, warps=warps, interpret=interpret)
    plain = Compiler(
        threads=_WARP * warps,
        launch=launch,
        width=1,
        read_row=gpu_compiler.scalars_of_row,
        numbers=list,
        reciprocal=lambda value: 1.0 / value,
        write_sums=gpu_compiler.write_sums_one_by_one,
        write_zeros=gpu_compiler.write_zeros_one_by_one,
        sum_entries=functools.partial(sum_entries, interpret=interpret),
    )
    if interpret:  # which knows no machine code
        return plain
    if warps > 1:
        return plain._replace(reciprocal=_reciprocal)
    return plain._replace(
        width=_WARP,
        read_row=_read_row_by_warp,
        numbers=_numbers_of_warp,
        reciprocal=_reciprocal,
        write_sums=_write_sums_of_warp,
        write_zeros=_write_zeros_by_warp,
    )


def _launch(
    kernel: Any,
    out_shape: jax.ShapeDtypeStruct,
    arguments: list[Array],
    *,
    tiles: int,
    name: str,
    threads: int,
    warps: int,
    interpret: bool,
) -> Array:
    whole = pl.BlockSpec(memory_space=pl.ANY)

    def body(*references: Any) -> None:
        kernel(pl.program_id(0), jnp.arange(threads), *references)

    return pl.pallas_call(
        body,
        out_shape=out_shape,
        grid=(tiles,),
        in_specs=[whole] * len(arguments),
        out_specs=whole,
        # Never left to the default: that is another backend in some versions of JAX.
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name=name,
    )(*arguments)


def _read_row_by_warp(rows: Any, place: Array) -> tuple[Float[Array, "32"], ...]:
    """Every thread reads one number, or one of each 32."""
    return tuple(rows[place, pl.ds(first, _WARP)] for first in range(0, rows.shape[1], _WARP))


def _numbers_of_warp(read: tuple[Float[Array, "32"], ...]) -> list[Float[Array, "32"]]:
    """Each number, at all threads."""
    return [
        _machine_code(f"shfl.sync.idx.b32 $0, $1, {k}, 0x1f, 0xffffffff;", part) for part in read for k in range(_WARP)
    ]


def _write_zeros_by_warp(out: Any, row: Array) -> None:
    for first in range(0, out.shape[1], _WARP):
        column = first + jnp.arange(_WARP)
        triton.store(out.at[row, column], jnp.zeros(_WARP), mask=column < out.shape[1])


def _write_sums_of_warp(out: Any, row: Array, planes: list[Float[Array, "32"]]) -> None:
    """All sums over a warp at once.

    Two planes become one in a step: half of the threads keep the first, the others the second, and each gets from its
    partner what that one does not keep. After five steps every thread has one sum: 31 exchanges for 32 planes in place
    of 160, and one store.
    """
    lane = _machine_code("mov.u32 $0, %laneid;", jnp.arange(_WARP), dtype=jnp.int32)
    for first in range(0, len(planes), _WARP):
        together = planes[first : first + _WARP]
        total, column = sums_of_warp(together, lane, _from_partner)
        triton.store(out.at[row, first + column], total, mask=column < len(together))


def sums_of_warp(
    planes: list[Float[Array, "32"]], lane: Int[Array, "32"], from_partner: Callable[[Array, int], Array]
) -> tuple[Float[Array, "32"], Int[Array, "32"]]:
    """One sum for each thread, and the number of the plane that it is of; numbers beyond the last plane are padding.

    There are at most 32 planes.

    `from_partner(value, bit)` is the value of the thread whose number, its `lane`, differs in `bit`.
    """
    assert len(planes) <= _WARP
    column = jnp.zeros_like(lane)
    for step in range(5):
        bit = _WARP >> (step + 1)
        high = (lane & bit) != 0
        planes = [*planes, *[jnp.zeros_like(planes[0])] * (len(planes) % 2)]
        planes = [
            jnp.where(high, second, first) + from_partner(jnp.where(high, first, second), bit)
            for first, second in zip(planes[::2], planes[1::2], strict=True)
        ]
        column += jnp.where(high, 1 << step, 0)
    return planes[0], column


def _from_partner(value: Float[Array, "32"], bit: int) -> Float[Array, "32"]:
    """The value of the thread whose number differs in `bit`."""
    return _machine_code(f"shfl.sync.bfly.b32 $0, $1, {bit}, 0x1f, 0xffffffff;", value)


def _reciprocal(value: Array) -> Array:
    """The hardware's, within one unit of the last place. A denormal number counts as 0."""
    return _machine_code("rcp.approx.ftz.f32 $0, $1;", value)


def _machine_code(text: str, value: Array, dtype: Any = jnp.float32) -> Array:
    """PTX with one argument, on every element."""
    kinds = {jnp.dtype(jnp.float32): "f", jnp.dtype(jnp.int32): "r"}
    [found] = triton.elementwise_inline_asm(
        text,
        args=[value],
        constraints=f"={kinds[jnp.dtype(dtype)]},{kinds[value.dtype]}",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(value.shape, dtype)],
    )
    return found


def sum_entries(values: Float[Array, "s n"], bins: Bins, *, interpret: bool = False) -> Float[Array, "r n"]:
    """As `tiling.binning.sum_entries`: entry by entry, so the same every time."""
    rows, columns = bins.first.shape[0], values.shape[1]
    width = 1 << (columns - 1).bit_length()
    whole = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        functools.partial(_sum_kernel, columns=columns, width=width),
        out_shape=jax.ShapeDtypeStruct((rows, columns), values.dtype),
        grid=(-(-rows // _ROWS),),
        in_specs=[whole] * 3,
        out_specs=whole,
        compiler_params=triton.CompilerParams(num_warps=_ROW_WARPS, num_stages=1),
        interpret=interpret,
        name="sum_entries",
    )(values, bins.first, bins.entries)


def _sum_kernel(values: Any, first_ref: Any, entries_ref: Any, out: Any, *, columns: int, width: int) -> None:
    row = pl.program_id(0) * _ROWS + jnp.arange(_ROWS)
    inside = row < out.shape[0]
    first = triton.load(first_ref.at[row], mask=inside, other=0)
    entries = triton.load(entries_ref.at[row], mask=inside, other=0)
    column = jnp.broadcast_to(jnp.arange(width)[None, :], (_ROWS, width))

    def wide(value: Int[Array, "r"]) -> Int[Array, "r w"]:
        return jnp.broadcast_to(value[:, None], (_ROWS, width))

    def add(k: Array, total: Array) -> Array:
        mask = (wide(entries) > k) & (column < columns)
        return total + triton.load(values.at[wide(first) + k, column], mask=mask, other=0.0)

    total = jax.lax.fori_loop(0, jnp.max(entries), add, jnp.zeros((_ROWS, width), jnp.float32))
    triton.store(out.at[wide(row), column], total, mask=wide(inside) & (column < columns))
