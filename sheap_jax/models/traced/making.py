"""New arrays from sizes, under TorchScript's names."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from sheap_jax.models.traced.elementwise import Operation, is_number


def _dtype(value: Any, dtype: str | None) -> Any:
    """torch's kind of number for a value: single precision for floats."""
    if dtype is not None:
        return dtype
    return jnp.asarray(value).dtype if isinstance(value, bool) or not is_number(value) else None


def _arange(end: Any = None, dtype: str | None = None, *, start: Any = 0, step: Any = 1) -> Array:
    return jnp.arange(start, end, step, dtype=dtype)


def _full(size: list[int], fill_value: Any, dtype: str | None = None) -> Array:
    return jnp.full(size, fill_value, _dtype(fill_value, dtype))


def _filled(value: float) -> Operation:
    return lambda size, dtype=None: jnp.full(size, value, dtype or jnp.float32)


def _like(value: float) -> Operation:
    return lambda self, dtype=None: jnp.full(jnp.shape(self), value, dtype or jnp.asarray(self).dtype)


def _new(value: float) -> Operation:
    return lambda self, size, dtype=None: jnp.full(size, value, dtype or self.dtype)


MAKING: dict[str, Operation] = {
    "aten::zeros": _filled(0),
    "aten::ones": _filled(1),
    "aten::full": _full,
    "aten::zeros_like": _like(0),
    "aten::ones_like": _like(1),
    "aten::full_like": lambda self, fill_value, dtype=None: jnp.full_like(self, fill_value, dtype=dtype),
    "aten::new_zeros": _new(0),
    "aten::new_ones": _new(1),
    "aten::new_full": lambda self, size, fill_value, dtype=None: jnp.full(size, fill_value, dtype or self.dtype),
    "aten::scalar_tensor": lambda s, dtype=None: s,
    "aten::arange": _arange,
    "aten::linspace": lambda start, end, steps, dtype=None: jnp.linspace(start, end, steps, dtype=dtype),
    "aten::eye": lambda n, m=None, dtype=None: jnp.eye(n, m, dtype=dtype or jnp.float32),
    "aten::tril": lambda self, diagonal=0: jnp.tril(self, diagonal),
    "aten::triu": lambda self, diagonal=0: jnp.triu(self, diagonal),
}
