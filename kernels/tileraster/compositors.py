"""The compositing step of each implementation, with the numbers that tune it."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from tileraster import compositing
from tileraster.validation import target_device

if TYPE_CHECKING:
    from tileraster import pallas_composite


class Compositor(NamedTuple):
    """How tile lists become tiles: `composite(geometry, features, bins, grid, near)`, the last feature being 1."""

    tile: int
    composite: Callable[..., Any]  # returns `Composited`; Any, as type checkers lose what a custom_vjp returns


class TpuTuning(NamedTuple):
    """Entries per iteration of the inner loops; whether a chunk's features are summed while the next one is read."""

    forward: int
    overlap: bool
    backward: int
    mesh: int


class GpuTuning(NamedTuple):
    """Pixels a side of a tile, entries per chunk, and the warps that share a tile.

    Only Triton takes other warps, as Mosaic has one warpgroup, which is four, and other tiles: the layouts of Mosaic's
    backward kernel fit 16 pixels.
    """

    tile: int
    chunk: int
    forward_warps: int
    backward_warps: int


# Tiles of 32 pixels and chunks of 32 entries are part of how the TPU's kernels are written. No kernel has run on its
# device. The TPU's numbers are those with the fewest VLIW bundles per entry and tile, all loops of a chunk
# counted (benchmarks/tpu_compile.py). Forward by entries per iteration, without overlap: v5e 25.2 (8), 21.8 (16), 22.5
# (32), v6e 24.2 (16); with overlap: v5e 25.8 (16), 24.8 (32), v5p 25.3 (32), v6e 22.4 (16), 20.1 (32). Backward on v5e:
# 46.5 (8), 42.7 (16), 38.9 (32). The others are unmeasured: mesh, and the GPU's.
_TPU = TpuTuning(forward=16, overlap=False, backward=32, mesh=8)
_TPU_OF_KIND = {"TPU v6 lite": _TPU._replace(forward=32, overlap=True)}
_TPU_INTERPRETED = TpuTuning(forward=1, overlap=False, backward=1, mesh=1)  # short programs: most time is compiling
GPU_TUNING = GpuTuning(tile=16, chunk=8, forward_warps=4, backward_warps=4)


def compositor_of(implementation: str) -> Compositor:
    """The compositor of an implementation that `validation.choose_implementation` has let through."""
    return _compositor(implementation, _device().device_kind)


def tpu_tuning(implementation: str, device_kind: str | None = None) -> TpuTuning:
    """The numbers of the TPU's kernels for a kind of device, by default the one that is compiled for."""
    if implementation.endswith("_interpret"):
        return _TPU_INTERPRETED
    return _TPU_OF_KIND.get(device_kind or _device().device_kind, _TPU)


@functools.cache
def _compositor(implementation: str, device_kind: str) -> Compositor:
    if implementation == "xla":
        return Compositor(tile=compositing.TILE, composite=compositing.composite)
    # Pallas is imported where it is used: it takes a second.
    from tileraster import pallas_composite

    if implementation.startswith("pallas_tpu"):
        kernels = _tpu_kernels(implementation, device_kind)
    else:
        kernels = gpu_kernels(implementation)
    return Compositor(tile=kernels.tile, composite=functools.partial(pallas_composite.composite, kernels=kernels))


def _tpu_kernels(implementation: str, device_kind: str) -> "pallas_composite.Kernels":
    from tileraster import pallas_composite, pallas_tpu, pallas_tpu_backward

    tuning, interpret = tpu_tuning(implementation, device_kind), implementation.endswith("_interpret")
    return pallas_composite.Kernels(
        tile=pallas_tpu.TILE,
        chunk=pallas_tpu.CHUNK,
        forward=functools.partial(
            pallas_tpu.forward, unroll=tuning.forward, overlap=tuning.overlap, interpret=interpret
        ),
        backward=functools.partial(pallas_tpu_backward.backward, unroll=tuning.backward, interpret=interpret),
    )


def gpu_kernels(implementation: str, tuning: GpuTuning = GPU_TUNING) -> "pallas_composite.Kernels":
    """The kernels of pallas_gpu: by the compiler that the name says, or Mosaic from Hopper on and Triton before.

    Triton also interprets, which Mosaic cannot in all versions of JAX.
    """
    from tileraster import pallas_composite, pallas_gpu

    if implementation == "pallas_gpu_mosaic" or (implementation == "pallas_gpu" and _compute_capability() >= 9):
        from tileraster import pallas_gpu_mosaic

        launchers = [pallas_gpu_mosaic.launch] * 2
    else:
        from tileraster import pallas_gpu_triton

        interpret = implementation.endswith("_interpret")
        launchers = [
            functools.partial(pallas_gpu_triton.launch, warps=warps, interpret=interpret)
            for warps in (tuning.forward_warps, tuning.backward_warps)
        ]
    forward, backward = launchers
    return pallas_composite.Kernels(
        tile=tuning.tile,
        chunk=tuning.chunk,
        forward=functools.partial(pallas_gpu.forward, side=tuning.tile, launch=forward),
        backward=functools.partial(pallas_gpu.backward, side=tuning.tile, launch=backward),
    )


def _compute_capability() -> float:
    """Of the GPU that is compiled for, 8.0 is Ampere, 9.0 Hopper: of the default one, or ahead of time by its name."""
    target = target_device()
    if target is not None and jax.default_backend() == "cpu":
        return 8.0 if "A100" in target.device_kind else 9.0
    return float(jax.local_devices()[0].compute_capability)


def _device() -> Any:
    """The device that is compiled for, else the default one."""
    return target_device() or jax.local_devices()[0]
