"""Compositing on GPUs: a table of rows for the kernels of `gpu_kernel`, and what becomes of their gradients.

A block of threads reads the numbers of its entries where the primitives have them, and writes their gradients where
those of a primitive lie side by side. Nothing is gathered or brought back in between.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tileraster.pallas import entry_rows, gpu_kernel
from tileraster.pallas.composite import Gradients, Primitives, TileCotangents, TileSums
from tileraster.pallas.entry_pairs import Passed
from tileraster.pallas.entry_rows import PIXEL_SCALE, Moments
from tileraster.pallas.gpu_compiler import Compiler
from tileraster.pallas.gpu_kernel import MOMENTS, Table, Work
from tileraster.tiling.binning import TileGrid


def forward(primitives: Primitives, *, grid: TileGrid, near: float, chunk: int, compiler: Compiler) -> TileSums:
    """Composite every tile. Whether all its pixels are opaque is asked after every `chunk` entries."""
    table = _table(primitives, compiler.width)
    tiles, constants = table.start.shape[0], primitives.features.shape[1] - 1
    shape = tiles, constants + len(Passed._fields) - 1, grid.tile**2
    _check_sizes(table.rows.shape, shape)
    out = compiler.launch(
        functools.partial(gpu_kernel.composite_tile, work=Work(constants, chunk, grid, near, compiler)),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        [*table],
        tiles=tiles,
        name="splat_forward",
    )
    planes = [out[:, k] for k in range(constants, out.shape[1])]
    return TileSums(jnp.concatenate([out[:, :constants], planes[0][:, None]], axis=1), *planes)


def backward(
    primitives: Primitives, cotangents: TileCotangents, *, grid: TileGrid, near: float, chunk: int, compiler: Compiler
) -> Gradients:
    """Gradients of the primitives; that of the last feature, which is a constant, is 0."""
    geometry, features, bins = primitives
    table = _table(primitives, compiler.width)
    tiles, constants = table.start.shape[0], features.shape[1] - 1
    shape = bins.row.shape[0], MOMENTS + constants
    _check_sizes(table.rows.shape, shape, (geometry.shape[0], shape[1]))
    by_slot = compiler.launch(
        functools.partial(gpu_kernel.differentiate_tile, work=Work(constants, chunk, grid, near, compiler)),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        [*table, bins.slot, jnp.concatenate([cotangents.features, jnp.stack(cotangents[1:], axis=1)], axis=1)],
        tiles=tiles,
        name="splat_backward",
    )
    summed = compiler.sum_entries(by_slot, bins)
    return Gradients(
        entry_rows.geometry_gradient(_moments(summed), geometry, geometry[:, :2]),
        jnp.pad(summed[:, MOMENTS:], ((0, 0), (0, 1))),
    )


def _check_sizes(*shapes: tuple[int, ...]) -> None:
    """Kernels count with 32 bits: beyond them they would read and write anywhere."""
    for shape in shapes:
        if math.prod(shape) >= 1 << 31:
            raise ValueError(
                f"pallas_gpu: an array of shape {shape} is too large for it; draw fewer images at once, or give a "
                "smaller max_intersections"
            )


def _table(primitives: Primitives, width: int) -> Table:
    geometry, features, bins = primitives
    columns = [*entry_rows.entry_row(geometry, jnp.zeros(2), jnp.zeros(())), *features.T[:-1]]
    # The barrier makes XLA compute column by column, then turn the table round. In one go neighbouring threads would
    # compute different columns.
    table = jax.lax.optimization_barrier(jnp.stack(columns))
    rows = jnp.pad(table.T, ((0, 0), (0, -len(columns) % width)))
    return Table(bins.tile_start, bins.tile_end, bins.row, rows)


def _moments(summed: Float[Array, "r n"]) -> Moments:
    """The kernel's sums, with the projected centre for origin; those of the filter are relative to the filter's."""
    unscale = jnp.array([1.0, 1.0 / PIXEL_SCALE, 1.0 / PIXEL_SCALE])
    a, b, g = (unscale * summed[:, k : k + 3] for k in (0, 3, 6))
    filtered = unscale * jnp.pad(summed[:, 9:11], ((0, 0), (1, 0)))
    return Moments(a, b, g, filtered, *(summed[:, k] for k in range(11, MOMENTS)))
