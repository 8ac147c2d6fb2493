"""Checks of a call's arguments. Every failure is one error: which argument, what came, what was wanted."""

import functools
import logging
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

IMPLEMENTATIONS = ("reference", "xla", "pallas_tpu", "pallas_gpu")


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
    power_of_two = isinstance(max_intersections, int) and max_intersections > 0
    power_of_two = power_of_two and max_intersections & (max_intersections - 1) == 0
    if not power_of_two:
        raise ValueError(f"max_intersections: got {max_intersections!r}, wanted None or a power of two")


def check_faces(faces: jax.Array) -> None:
    shape = jnp.shape(faces)
    if not hasattr(faces, "dtype") or not jnp.issubdtype(faces.dtype, jnp.integer):
        raise TypeError(f"faces: got {_describe(faces)}, wanted an integer array [F, 3]")
    if len(shape) != 2 or shape[1] != 3:
        raise ValueError(f"faces: got shape {shape}, wanted [F, 3], shared by the whole batch")


def choose_implementation(requested: str | None) -> str:
    """The implementation to run; None picks the best one there is for the default device."""
    if requested is None:
        _log_choice("xla", jax.default_backend())
        return "xla"
    if requested not in IMPLEMENTATIONS:
        raise ValueError(f"implementation: got {requested!r}, wanted None or one of {', '.join(IMPLEMENTATIONS)}")
    if requested.startswith("pallas"):
        raise NotImplementedError(
            f"implementation: got {requested!r}, which is not there yet; wanted None, 'xla' (any device) or 'reference'"
        )
    return requested


@functools.cache
def _log_choice(implementation: str, device: str) -> None:
    """Once per process and device."""
    logging.getLogger("tileraster").info("implementation %r on %s", implementation, device)


def _describe(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{dtype} array"
