"""Sums, means, norms and extremes along axes, under TorchScript's names."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sheap_jax.models.traced.elementwise import Operation, is_number

Axes = int | list[int] | None


def _axes(dim: Axes) -> Any:
    """All axes are None, or an empty list."""
    return (tuple(dim) or None) if isinstance(dim, list) else dim


def _reduction(name: str) -> Operation:
    def apply(self: Array, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Array:
        x = jnp.asarray(self) if dtype is None else jnp.asarray(self).astype(dtype)
        return getattr(jnp, name)(x, axis=_axes(dim), keepdims=keepdim)

    return apply


def _extreme(name: str) -> Operation:
    """The extreme of all numbers, of two arrays, or along an axis with its place there."""

    def apply(self: Array, other: Any = None, dim: int | None = None, keepdim: bool = False) -> Any:
        if other is not None:
            both = is_number(self) and is_number(other)
            return getattr(np if both else jnp, f"{name}imum")(self, other)
        found = getattr(jnp, name)(self, axis=dim, keepdims=keepdim)
        return found if dim is None else (found, getattr(jnp, f"arg{name}")(self, axis=dim, keepdims=keepdim))

    return apply


def _norm(x: Array, order: Any, dim: Axes, keepdim: bool, dtype: str | None) -> Array:
    """The p-norm of vectors along any number of axes."""
    size = jnp.abs(x if dtype is None else x.astype(dtype))
    order = 2 if order in (None, "fro") else order
    if order == float("inf"):
        return jnp.max(size, axis=_axes(dim), keepdims=keepdim)
    if order == 2:
        return jnp.sqrt(jnp.sum(size * size, axis=_axes(dim), keepdims=keepdim))
    return jnp.sum(size**order, axis=_axes(dim), keepdims=keepdim) ** (1 / order)


def _vector_norm(self: Array, ord: Any = 2, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Array:
    return _norm(self, ord, dim, keepdim, dtype)


def _old_norm(self: Array, p: Any = 2, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Array:
    return _norm(self, p, dim, keepdim, dtype)


def _linear_algebra_norm(
    self: Array, ord: Any = None, dim: Axes = None, keepdim: bool = False, dtype: str | None = None
) -> Array:
    """Of vectors; without an order also of everything."""
    axes = dim if isinstance(dim, list) else [0] * self.ndim if dim is None else [dim]
    if ord is not None and len(axes) > 1:
        raise NotImplementedError("norms of matrices are not known here")
    return _norm(self, ord, dim, keepdim, dtype)


def _variance(
    self: Array, dim: Axes = None, unbiased: bool | None = None, correction: float | None = None, keepdim: bool = False
) -> Array:
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return jnp.var(self, axis=_axes(dim), ddof=int(correction), keepdims=keepdim)


REDUCTIONS: dict[str, Operation] = {
    **{f"aten::{name}": _reduction(name) for name in ("mean", "sum", "prod", "any", "all")},
    "aten::amax": _reduction("max"),
    "aten::amin": _reduction("min"),
    "aten::argmax": _reduction("argmax"),
    "aten::argmin": _reduction("argmin"),
    "aten::max": _extreme("max"),
    "aten::min": _extreme("min"),
    "aten::cumsum": lambda self, dim, dtype=None: jnp.cumsum(self, axis=dim, dtype=dtype),
    "aten::linalg_vector_norm": _vector_norm,
    "aten::linalg_norm": _linear_algebra_norm,
    "aten::norm": _old_norm,
    "aten::frobenius_norm": _old_norm,
    "aten::var": _variance,
    "aten::std": lambda **arguments: jnp.sqrt(_variance(**arguments)),
}
