"""Launch GPU kernels through Pallas' Triton backend: for Ampere and earlier, where the Mosaic backend does not compile.

JAX will remove this backend. Then this file goes, with its lines in `kernels.gpu_kernels`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from tileraster.pallas.gpu import pixels_of


def launch(
    kernel: Any,
    out_shape: jax.ShapeDtypeStruct,
    arguments: list[Array],
    *,
    tiles: int,
    side: int,
    name: str,
    warps: int,
    interpret: bool = False,
) -> Array:
    """See `gpu.Launch`."""
    whole = pl.BlockSpec(memory_space=pl.ANY)

    def body(*references: Any) -> None:
        kernel(pl.program_id(0), pixels_of(jnp.arange(side * side), side=side), *references)

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
