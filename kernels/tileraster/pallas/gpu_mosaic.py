"""Launch GPU kernels through Pallas' Mosaic backend: Hopper and newer. A warpgroup, 128 threads, per tile."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array

from tileraster.pallas.gpu import pixels_of

_THREADS = 128


def launch(
    kernel: Any, out_shape: jax.ShapeDtypeStruct, arguments: list[Array], *, tiles: int, side: int, name: str
) -> Array:
    """See `gpu.Launch`."""
    pixels = side * side

    def body(*references: Any) -> None:
        layout = plgpu.Layout.WG_STRIDED((pixels,), vec_size=pixels // _THREADS)
        index = plgpu.broadcasted_iota(jnp.int32, (pixels,), 0, layout=layout)
        kernel(jax.lax.axis_index("tile"), pixels_of(index, side=side), *references)

    body.__name__ = name  # names the kernel
    return plgpu.kernel(
        body,
        out_type=out_shape,
        grid=(tiles,),
        grid_names=("tile",),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(*arguments)
