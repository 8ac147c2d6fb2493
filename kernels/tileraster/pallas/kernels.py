"""The Pallas kernels of each implementation, with the numbers that tune them."""

import functools

import jax

from tileraster.pallas import composite, gpu, tpu_backward, tpu_forward
from tileraster.pallas.tuning import GPU_TUNING, GpuTuning, tpu_tuning
from tileraster.validation import target_device


def kernels_of(implementation: str, device_kind: str) -> composite.Kernels:
    """The kernels of an implementation whose name begins with "pallas", for a kind of device."""
    return tpu_kernels(implementation, device_kind) if "tpu" in implementation else gpu_kernels(implementation)


def tpu_kernels(implementation: str, device_kind: str) -> composite.Kernels:
    """The kernels of pallas_tpu for a kind of device."""
    tuning, interpret = tpu_tuning(implementation, device_kind), implementation.endswith("_interpret")
    return composite.Kernels(
        tile=tpu_forward.TILE,
        chunk=tpu_forward.CHUNK,
        forward=functools.partial(
            tpu_forward.forward, unroll=tuning.forward, overlap=tuning.overlap, interpret=interpret
        ),
        backward=functools.partial(tpu_backward.backward, unroll=tuning.backward, interpret=interpret),
    )


def gpu_kernels(implementation: str, tuning: GpuTuning = GPU_TUNING) -> composite.Kernels:
    """The kernels of pallas_gpu: by the compiler that the name says, or Mosaic from Hopper on and Triton before.

    Triton also interprets, which Mosaic cannot in all versions of JAX.
    """
    if implementation == "pallas_gpu_mosaic" or (implementation == "pallas_gpu" and _compute_capability() >= 9):
        from tileraster.pallas import gpu_mosaic  # each compiler needs a part of JAX that the other does without

        launchers = [gpu_mosaic.launch] * 2
    else:
        from tileraster.pallas import gpu_triton

        interpret = implementation.endswith("_interpret")
        launchers = [
            functools.partial(gpu_triton.launch, warps=warps, interpret=interpret)
            for warps in (tuning.forward_warps, tuning.backward_warps)
        ]
    forward, backward = launchers
    return composite.Kernels(
        tile=tuning.tile,
        chunk=tuning.chunk,
        forward=functools.partial(gpu.forward, side=tuning.tile, launch=forward),
        backward=functools.partial(gpu.backward, side=tuning.tile, launch=backward),
    )


def _compute_capability() -> float:
    """Of the default GPU, or ahead of time by the name of the target: 8.0 is Ampere, 9.0 Hopper."""
    target = target_device()
    if target is not None and jax.default_backend() == "cpu":
        return 8.0 if "A100" in target.device_kind else 9.0
    return float(jax.local_devices()[0].compute_capability)
