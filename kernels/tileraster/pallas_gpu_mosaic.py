"""Launch GPU kernels through Pallas' Mosaic backend: Hopper and newer. A warpgroup per tile, two pixels per thread."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array

from tileraster.pallas_gpu import PIXELS, pixels_of


def launch(kernel: Any, out_shape: jax.ShapeDtypeStruct, arguments: list[Array], *, tiles: int, name: str) -> Array:
    """See `pallas_gpu.Launch`."""

    def body(*references: Any) -> None:
        layout = plgpu.Layout.WG_STRIDED((PIXELS,), vec_size=2)
        index = plgpu.broadcasted_iota(jnp.int32, (PIXELS,), 0, layout=layout)
        kernel(jax.lax.axis_index("tile"), pixels_of(index), *references)

    body.__name__ = name  # names the kernel
    return plgpu.kernel(
        body,
        out_type=out_shape,
        grid=(tiles,),
        grid_names=("tile",),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(*arguments)
