"""Checks of a call's arguments. Every failure is one error: which argument, what came, what was wanted."""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tileraster.constants import CAPACITY_STEP

IMPLEMENTATIONS = ("reference", "xla", "pallas_tpu", "pallas_gpu")
GPU_BACKENDS = ("pallas_gpu_mosaic", "pallas_gpu_triton")  # pallas_gpu by one of its two compilers, to compare them
INTERPRETED = ("pallas_tpu_interpret", "pallas_gpu_interpret")  # on any device, for tests: slow
# What None chooses. On a GPU pallas_gpu is the fastest (docs/experiments/gpu.md). pallas_tpu never ran on a TPU, but a
# TPU is slow at the gathers in the loops of plain XLA.
DEFAULTS = {"tpu": "pallas_tpu", "gpu": "pallas_gpu", "cpu": "xla"}


def check_arrays(arrays: Mapping[str, jax.Array | None], specs: Mapping[str, Sequence[str | int]]) -> tuple[int, ...]:
    """Check dtypes and shapes of floating-point arguments and return their common leading batch shape.

    `specs` gives each argument's trailing axes: a number is a fixed size, a name must have one size everywhere.
    Arguments that are None are skipped.
    """
    batch: tuple[int, ...] | None = None
    sizes: dict[str, tuple[int, str]] = {}
    dtype, dtype_of = None, ""
    for name, spec in specs.items():
        value = arrays[name]
        if value is None:
            continue
        wanted = f"[*B, {', '.join(map(str, spec))}]" if spec else "[*B]"
        shape = tuple(jnp.shape(value))
        if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{name}: got {_describe(value)}, wanted a floating-point array {wanted}")
        if dtype is None:
            dtype, dtype_of = value.dtype, name
        if value.dtype != dtype:
            raise TypeError(f"{name}: got dtype {value.dtype}, wanted {dtype} as in {dtype_of}")
        if len(shape) < len(spec):
            raise ValueError(f"{name}: got shape {shape}, wanted {wanted}")
        trailing = shape[len(shape) - len(spec) :]
        for axis, got in zip(spec, trailing, strict=True):
            size, source = (axis, "") if isinstance(axis, int) else sizes.setdefault(axis, (got, name))
            if got != size:
                because = f" with {axis} = {size} as in {source}" if source else ""
                raise ValueError(f"{name}: got shape {shape}, wanted {wanted}{because}")
        leading = shape[: len(shape) - len(spec)]
        if batch is None:
            batch = leading
        if leading != batch:
            raise ValueError(f"{name}: got shape {shape}, wanted {wanted} with leading axes *B = {batch}")
    assert batch is not None
    return batch


def check_size(**sizes: int) -> None:
    """Image sizes are positive Python integers: they are shapes, so they cannot be traced."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: got {value!r}, wanted a positive int")


def check_capacity(max_intersections: int | None) -> None:
    if max_intersections is None:
        return
    whole = isinstance(max_intersections, int) and not isinstance(max_intersections, bool)
    if not whole or max_intersections < 1 or max_intersections % CAPACITY_STEP:
        raise ValueError(
            f"max_intersections: got {max_intersections!r}, wanted None or a positive multiple of {CAPACITY_STEP}"
        )


def check_faces(faces: jax.Array) -> None:
    shape = jnp.shape(faces)
    if not hasattr(faces, "dtype") or not jnp.issubdtype(faces.dtype, jnp.integer):
        raise TypeError(f"faces: got {_describe(faces)}, wanted an integer array [F, 3]")
    if len(shape) != 2 or shape[1] != 3:
        raise ValueError(f"faces: got shape {shape}, wanted [F, 3], shared by the whole batch")


def choose_implementation(requested: str | None, dtype: object, *, on_gpu: bool = True) -> str:
    """The implementation to run; None picks the default of the platform that the call is for.

    `dtype` is that of the arrays: Pallas kernels know float32 only. `on_gpu` tells whether pallas_gpu draws these
    primitives.
    """
    platform, single = call_platform(), dtype == jnp.float32
    if requested is None:
        chosen = DEFAULTS.get(platform, "xla") if single else "xla"
        if chosen == "pallas_gpu" and (_on_amd() or not on_gpu):
            chosen = "xla"
        _log_choice(chosen, platform)
        return chosen
    if requested not in IMPLEMENTATIONS + GPU_BACKENDS + INTERPRETED:
        raise ValueError(f"implementation: got {requested!r}, wanted None or one of {', '.join(IMPLEMENTATIONS)}")
    if requested.startswith("pallas"):
        instead = "wanted None, 'xla' (any device) or 'reference'"
        if not single:
            raise TypeError(f"implementation: {requested!r} takes float32, got {dtype}; {instead}")
        if requested.startswith("pallas_gpu") and not on_gpu:
            raise NotImplementedError(f"implementation: {requested!r} has no triangles; {instead}")
        needed = requested.split("_")[1]
        if requested not in INTERPRETED and platform != needed:
            raise ValueError(f"implementation: {requested!r} needs a {needed.upper()}, this is a {platform}; {instead}")
        if requested.startswith("pallas_gpu") and requested not in INTERPRETED and _on_amd():
            raise ValueError(f"implementation: {requested!r} needs a GPU by NVIDIA, this is one by AMD; {instead}")
    return requested


def target_device() -> Any:
    """The device of the abstract mesh, if there is one: that is so when compiling ahead of time."""
    # No mesh, or one made without devices, has no abstract device.
    return getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)


def current_device() -> Any:
    """The device that is compiled for, else the default one."""
    return target_device() or jax.local_devices()[0]


def call_platform() -> str:
    """Where a call will run: an abstract mesh's devices when compiling ahead of time, else the default device."""
    device = target_device() or getattr(jax.config, "jax_default_device", None)
    platform = getattr(device, "platform", device) or jax.default_backend()
    return "gpu" if platform in ("cuda", "rocm") else str(platform)


def _on_amd() -> bool:
    """Its GPUs do not know the machine code in the kernels."""
    return "rocm" in getattr(getattr(current_device(), "client", None), "platform_version", "")


@functools.cache
def _log_choice(implementation: str, device: str) -> None:
    """Once per process and device."""
    logging.getLogger("tileraster").info("implementation %r on %s", implementation, device)


def _describe(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{dtype} array"
