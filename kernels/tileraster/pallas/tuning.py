"""The numbers that tune the Pallas kernels, for each kind of device."""

from typing import NamedTuple

from tileraster.validation import current_device


class TpuTuning(NamedTuple):
    """Entries per iteration of the inner loops; whether a chunk's features are summed while the next one is read."""

    forward: int
    overlap: bool
    backward: int
    mesh: int


class GpuTuning(NamedTuple):
    """Pixels a side of a tile, entries per chunk, and the warps that share a tile.

    A tile has one or several pixels for each of its threads, 32 per warp. Only Triton takes other numbers of warps than
    four, which are Mosaic's.
    """

    tile: int
    chunk: int
    forward_warps: int
    backward_warps: int


# Tiles of 32 pixels and chunks of 32 entries are part of how the TPU's kernels are written. They have not
# run on a TPU. Their numbers are those with the fewest VLIW bundles per entry and tile, all loops of a chunk
# counted (benchmarks/tpu_compile.py). Forward by entries per iteration, without overlap: v5e 25.2 (8), 21.8 (16), 22.5
# (32), v6e 24.2 (16); with overlap: v5e 25.8 (16), 24.8 (32), v5p 25.3 (32), v6e 22.4 (16), 20.1 (32). Backward on v5e:
# 46.5 (8), 42.7 (16), 38.9 (32). That of the mesh is unmeasured.
# The GPU's are the best of a sweep on an H200 (benchmarks/results/gpu_tuning.json, gpu_tuning_first.json).
_TPU = TpuTuning(forward=16, overlap=False, backward=32, mesh=8)
_TPU_OF_KIND = {"TPU v6 lite": _TPU._replace(forward=32, overlap=True)}
_TPU_INTERPRETED = TpuTuning(forward=1, overlap=False, backward=1, mesh=1)  # short programs: most time is compiling
MOSAIC_TUNING = GpuTuning(tile=16, chunk=32, forward_warps=4, backward_warps=4)
TRITON_TUNING = GpuTuning(tile=8, chunk=32, forward_warps=1, backward_warps=1)
GPU_INTERPRETED = GpuTuning(tile=16, chunk=8, forward_warps=8, backward_warps=8)  # one pixel per thread: short programs


def tpu_tuning(implementation: str, device_kind: str | None = None) -> TpuTuning:
    """The numbers of the TPU's kernels for a kind of device, by default the current one."""
    if implementation.endswith("_interpret"):
        return _TPU_INTERPRETED
    return _TPU_OF_KIND.get(device_kind or current_device().device_kind, _TPU)
