"""GPU kernels through Pallas' Mosaic backend: Hopper and newer. A warpgroup, 128 threads, per tile."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array

from tileraster.pallas.gpu_compiler import Compiler, scalars_of_row, write_sums_one_by_one, write_zeros_one_by_one
from tileraster.tiling.binning import sum_entries

_THREADS = 128


def compiler() -> Compiler:
    return Compiler(
        threads=_THREADS,
        launch=_launch,
        width=1,
        read_row=scalars_of_row,
        numbers=list,
        reciprocal=lambda value: 1.0 / value,
        write_sums=write_sums_one_by_one,
        write_zeros=write_zeros_one_by_one,
        sum_entries=sum_entries,
    )


def _launch(kernel: Any, out_shape: jax.ShapeDtypeStruct, arguments: list[Array], *, tiles: int, name: str) -> Array:
    def body(*references: Any) -> None:
        layout = plgpu.Layout.WG_STRIDED((_THREADS,), vec_size=1)
        thread = plgpu.broadcasted_iota(jnp.int32, (_THREADS,), 0, layout=layout)
        kernel(jax.lax.axis_index("tile"), thread, *references)

    body.__name__ = name  # names the kernel
    return plgpu.kernel(
        body,
        out_type=out_shape,
        grid=(tiles,),
        grid_names=("tile",),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(*arguments)
