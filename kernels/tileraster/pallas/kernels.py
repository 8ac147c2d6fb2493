"""The Pallas kernels of each implementation, with the numbers that tune them."""

import functools

from tileraster.pallas import composite, entry_lists, gpu, tpu_backward, tpu_forward
from tileraster.pallas.tuning import GPU_INTERPRETED, MOSAIC_TUNING, TRITON_TUNING, GpuTuning, tpu_tuning


def kernels_of(implementation: str, device_kind: str) -> composite.Kernels:
    """The kernels of an implementation whose name begins with "pallas", for a kind of device."""
    return tpu_kernels(implementation, device_kind) if "tpu" in implementation else gpu_kernels(implementation)


def tpu_kernels(implementation: str, device_kind: str) -> composite.Kernels:
    """The kernels of pallas_tpu for a kind of device."""
    tuning, interpret = tpu_tuning(implementation, device_kind), implementation.endswith("_interpret")
    forward = functools.partial(tpu_forward.forward, unroll=tuning.forward, overlap=tuning.overlap, interpret=interpret)
    backward = functools.partial(tpu_backward.backward, unroll=tuning.backward, interpret=interpret)
    return composite.Kernels(
        tile=tpu_forward.TILE,
        forward=functools.partial(entry_lists.forward, chunk=tpu_forward.CHUNK, kernel=forward),
        backward=functools.partial(entry_lists.backward, chunk=tpu_forward.CHUNK, kernel=backward),
    )


def gpu_kernels(implementation: str, tuning: GpuTuning | None = None) -> composite.Kernels:
    """The kernels of pallas_gpu, by the compiler that the name says, or Triton, which is the faster one.

    Without `tuning` those of `tuning.py`. Raises ValueError if the threads do not fit the tile.
    """
    if implementation == "pallas_gpu_mosaic":
        from tileraster.pallas import gpu_mosaic  # each compiler needs a part of JAX that the other does without

        tuning = tuning or MOSAIC_TUNING
        compilers = [gpu_mosaic.compiler()] * 2
    else:
        from tileraster.pallas import gpu_triton

        interpret = implementation.endswith("_interpret")
        tuning = tuning or (GPU_INTERPRETED if interpret else TRITON_TUNING)
        compilers = [
            gpu_triton.compiler(warps=warps, interpret=interpret)
            for warps in (tuning.forward_warps, tuning.backward_warps)
        ]
    forward, backward = compilers
    for compiler in compilers:
        if tuning.tile**2 % compiler.threads:
            raise ValueError(f"{tuning}: the pixels of a tile must be a multiple of its {compiler.threads} threads")
    return composite.Kernels(
        tile=tuning.tile,
        forward=functools.partial(gpu.forward, chunk=tuning.chunk, compiler=forward),
        backward=functools.partial(gpu.backward, chunk=tuning.chunk, compiler=backward),
    )
