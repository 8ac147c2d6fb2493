"""Arithmetic and functions of single numbers, under TorchScript's names.

Numbers that follow from sizes alone stay Python numbers, so that they can be sizes again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Operation = Callable[..., Any]


def is_number(value: Any) -> bool:
    """Whether a value is known before anything is computed."""
    return isinstance(value, int | float | bool)


def in_order(function: Callable[..., Any]) -> Operation:
    """For operations whose overloads name the same arguments differently, in one order."""
    return lambda *counted, **named: function(*counted, *named.values())


def _mathematical(name: str) -> Operation:
    """A function that NumPy and JAX have under one name."""

    def apply(*values: Any) -> Any:
        if all(is_number(value) for value in values):
            return getattr(np, name)(*values).item()
        return getattr(jnp, name)(*values)

    return in_order(apply)


def _add(first: Any, second: Any, alpha: float = 1) -> Any:
    return first + second if alpha == 1 else first + alpha * second


def _subtract(first: Any, second: Any, alpha: float = 1) -> Any:
    return first - second if alpha == 1 else first - alpha * second


def _divide(first: Any, second: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return first / second
    if rounding_mode == "floor":
        return first // second
    return _mathematical("trunc")(first / second)


def _clamp(x: Array, least: Any = None, most: Any = None) -> Any:
    if is_number(x):
        x = x if least is None else max(x, least)
        return x if most is None else min(x, most)
    return jnp.clip(x, least, most)


def _gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


def _elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    negative = alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale)
    return scale * jnp.where(x > 0, x, negative)


def _prelu(x: Array, slope: Array) -> Array:
    """The slope of each channel, which are the second axis."""
    slope = jnp.asarray(slope)
    channels = slope.reshape(-1, *[1] * (x.ndim - 2)) if slope.size > 1 and x.ndim > 2 else slope
    return jnp.where(x > 0, x, channels * x)


def _cast(self: Any, other: Any = None, dtype: str | None = None) -> Any:
    """`to` and its relatives: only the dtype counts."""
    kind = dtype if dtype is not None else getattr(other, "dtype", None)
    if kind is None:
        return self
    if is_number(self):
        return float(self) if "float" in str(kind) else int(self)
    return self.astype(kind)


def _copy(self: Array, src: Array) -> Array:
    return jnp.broadcast_to(src, self.shape).astype(self.dtype)


def _fill(self: Array, value: Any) -> Array:
    return jnp.full_like(self, value)


_SAME_NAME = (
    "exp exp2 expm1 log log2 log10 log1p sqrt sin cos tan sinh cosh tanh floor ceil trunc round abs sign square "
    "reciprocal isnan isfinite logical_not logical_and logical_or logical_xor maximum minimum fmod"
)
_OTHER_NAME = {
    **{"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "remainder": "mod"},
    **{"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"},
}

ELEMENTWISE: dict[str, Operation] = {
    **{f"aten::{name}": _mathematical(name) for name in _SAME_NAME.split()},
    **{f"aten::{theirs}": _mathematical(ours) for theirs, ours in _OTHER_NAME.items()},
    "aten::add": in_order(_add),
    "aten::sub": in_order(_subtract),
    "aten::rsub": in_order(lambda first, second, alpha=1: second - alpha * first),
    "aten::mul": in_order(lambda first, second: first * second),
    "aten::div": in_order(_divide),
    "aten::floor_divide": in_order(lambda first, second: first // second),
    "aten::floordiv": in_order(lambda first, second: first // second),
    "aten::pow": in_order(lambda base, exponent: base**exponent),
    "aten::neg": in_order(lambda x: -x),
    "aten::rsqrt": in_order(lambda x: jax.lax.rsqrt(x)),
    "aten::erf": in_order(lambda x: jax.scipy.special.erf(x)),
    "aten::addcmul": lambda self, tensor1, tensor2, value=1: self + value * tensor1 * tensor2,
    "aten::addcdiv": lambda self, tensor1, tensor2, value=1: self + value * tensor1 / tensor2,
    "aten::lerp": lambda self, end, weight: self + weight * (end - self),
    "aten::eq": in_order(lambda first, second: first == second),
    "aten::ne": in_order(lambda first, second: first != second),
    "aten::lt": in_order(lambda first, second: first < second),
    "aten::le": in_order(lambda first, second: first <= second),
    "aten::gt": in_order(lambda first, second: first > second),
    "aten::ge": in_order(lambda first, second: first >= second),
    **{f"aten::{name}": in_order(lambda first, second: first & second) for name in ("__and__", "bitwise_and")},
    **{f"aten::{name}": in_order(lambda first, second: first | second) for name in ("__or__", "bitwise_or")},
    "aten::bitwise_not": in_order(lambda x: ~jnp.asarray(x)),
    "aten::clamp": in_order(_clamp),
    "aten::clamp_min": in_order(lambda x, least: _clamp(x, least, None)),
    "aten::clamp_max": in_order(lambda x, most: _clamp(x, None, most)),
    "aten::where": lambda condition, self, other: jnp.where(condition, self, other),
    "aten::masked_fill": lambda self, mask, value: jnp.where(mask, jnp.asarray(value).astype(self.dtype), self),
    "aten::relu": in_order(jax.nn.relu),
    "aten::relu6": in_order(jax.nn.relu6),
    "aten::hardtanh": in_order(lambda x, least=-1, most=1: jnp.clip(x, least, most)),
    "aten::hardsigmoid": in_order(jax.nn.hard_sigmoid),
    "aten::hardswish": in_order(jax.nn.hard_swish),
    "aten::leaky_relu": in_order(lambda x, slope=0.01: jnp.where(x > 0, x, slope * x)),
    "aten::prelu": in_order(_prelu),
    "aten::_prelu_kernel": in_order(_prelu),
    "aten::elu": in_order(_elu),
    "aten::gelu": in_order(_gelu),
    "aten::silu": in_order(jax.nn.silu),
    "aten::mish": in_order(jax.nn.mish),
    "aten::sigmoid": in_order(jax.nn.sigmoid),
    "aten::softplus": in_order(_softplus),
    "aten::to": _cast,
    "aten::_to_copy": _cast,
    "aten::type_as": _cast,
    "aten::copy": _copy,
    "aten::fill": _fill,
    "aten::zero": lambda self: jnp.zeros_like(self),
    **{f"aten::{name}": in_order(lambda x: x) for name in ("clone", "detach", "contiguous", "alias", "lift_fresh")},
    "prim::NumToTensor": in_order(lambda x: x),
    "aten::Int": in_order(int),
    "aten::IntImplicit": in_order(int),
    "aten::Float": in_order(float),
    "aten::FloatImplicit": in_order(float),
    "aten::ScalarImplicit": in_order(lambda x: x),
    "aten::item": in_order(lambda x: x),
}
