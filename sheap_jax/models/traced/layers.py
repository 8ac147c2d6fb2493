"""Linear layers, convolutions, norms and pooling, under TorchScript's names. Channels are the second axis."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sheap_jax.models.traced.elementwise import Operation

Sizes = int | Sequence[int]


def _linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    out = input @ weight.T
    return out if bias is None else out + bias


def _scaled_sum(self: Array, product: Array, beta: float, alpha: float) -> Array:
    return (0 if beta == 0 else beta * self) + alpha * product


def _bilinear_sum(self: Array, mat1: Array, mat2: Array, beta: float = 1, alpha: float = 1) -> Array:
    return _scaled_sum(self, mat1 @ mat2, beta, alpha)


def _batched_sum(self: Array, batch1: Array, batch2: Array, beta: float = 1, alpha: float = 1) -> Array:
    return _scaled_sum(self, batch1 @ batch2, beta, alpha)


def _many(value: Sizes, axes: int) -> tuple[int, ...]:
    """One number for each axis, from one for all or one for each."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * axes) if len(values) == 1 else tuple(values)


def _convolution(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    transposed: bool = False,
    output_padding: Sizes = 0,
    groups: int = 1,
) -> Array:
    """A convolution over all axes after the first two; without a batch axis one is added."""
    if transposed:
        raise NotImplementedError("transposed convolutions are not known here")
    axes = weight.ndim - 2
    batched = input if input.ndim == axes + 2 else input[None]
    pads = padding.upper() if isinstance(padding, str) else [(width, width) for width in _many(padding, axes)]
    steps, spread = _many(stride, axes), _many(dilation, axes)
    out = jax.lax.conv_general_dilated(batched, weight, steps, pads, rhs_dilation=spread, feature_group_count=groups)
    out = out if bias is None else out + bias.reshape(-1, *[1] * axes)
    return out if input.ndim == axes + 2 else out[0]


def _normalised(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """In single precision, as torch does it for halves."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred * centred, axes, keepdims=True) + epsilon)


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _layer_norm(
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    axes = tuple(range(-len(normalized_shape), 0))
    return _affine(_normalised(input, axes, eps), weight, bias).astype(input.dtype)


def _by_channel(values: Any, like: Array) -> Any:
    return None if values is None else values.reshape(-1, *[1] * (like.ndim - 2))


def _group_norm(
    input: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    grouped = input.reshape(input.shape[0], num_groups, -1)
    out = _normalised(grouped, (-1,), eps).reshape(input.shape)
    return _affine(out, _by_channel(weight, input), _by_channel(bias, input)).astype(input.dtype)


def _batch_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    eps: float,
) -> Array:
    """With the stored statistics. Without them, or in training, each answer would depend on the rest of its batch."""
    if training or running_mean is None or running_var is None:
        raise ValueError("the network was traced in training mode: its answers depend on the other images of a batch")
    mean, variance = _by_channel(running_mean, input), _by_channel(running_var, input)
    out = (input - mean) * jax.lax.rsqrt(variance + eps)
    return _affine(out, _by_channel(weight, input), _by_channel(bias, input))


def _instance_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    use_input_stats: bool,
    eps: float,
) -> Array:
    if not use_input_stats:
        return _batch_norm(input, weight, bias, running_mean, running_var, False, eps)
    out = _normalised(input, tuple(range(2, input.ndim)), eps)
    return _affine(out, _by_channel(weight, input), _by_channel(bias, input))


def _dropout(input: Array, p: float, train: bool) -> Array:
    if train and p:
        raise ValueError("the network was traced in training mode: its answers are random")
    return input


def _windows(x: Array, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool) -> dict[str, Any]:
    """Arguments of reduce_window for the last axes; `ceil` adds windows that reach over the end."""
    if ceil:
        raise NotImplementedError("ceil_mode is not known here")
    lead = x.ndim - len(_many(kernel, 2))
    steps = _many(stride, 2) if isinstance(stride, int) or len(stride) else _many(kernel, 2)
    ones, pads = (1,) * lead, [(0, 0)] * lead
    return {
        "window_dimensions": (*ones, *_many(kernel, 2)),
        "window_strides": (*ones, *steps),
        "padding": [*pads, *((width, width) for width in _many(padding, 2))],
        "window_dilation": (*ones, *_many(dilation, 2)),
    }


def _max_pool(
    self: Array,
    kernel_size: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Array:
    windows = _windows(self, kernel_size, stride, padding, dilation, ceil_mode)
    return jax.lax.reduce_window(self, -jnp.inf, jax.lax.max, **windows)


def _average_pool(
    self: Array,
    kernel_size: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    windows = _windows(self, kernel_size, stride, padding, 1, ceil_mode)
    total = jax.lax.reduce_window(self, 0.0, jax.lax.add, **windows)
    if divisor_override is not None:
        return total / divisor_override
    if count_include_pad:
        return total / jnp.prod(jnp.array(_many(kernel_size, 2)))
    return total / jax.lax.reduce_window(jnp.ones_like(self), 0.0, jax.lax.add, **windows)


def _adaptive(reduce: Any) -> Operation:
    """Pooling to a given size: cell i of m covers positions floor(i n / m) to ceil((i + 1) n / m)."""

    def apply(self: Array, output_size: Sizes) -> Array:
        x = self
        for axis, cells in zip((-2, -1), _many(output_size, 2), strict=True):
            length = x.shape[axis]
            parts = [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]
            rows = jnp.moveaxis(x, axis, -1)
            x = jnp.moveaxis(jnp.stack([reduce(rows[..., a:b], axis=-1) for a, b in parts], -1), -1, axis)
        return x

    return apply


def _embedding(weight: Array, indices: Array) -> Array:
    return weight[indices]


LAYERS: dict[str, Operation] = {
    "aten::linear": _linear,
    "aten::matmul": lambda self, other: self @ other,
    "aten::mm": lambda self, mat2: self @ mat2,
    "aten::bmm": lambda self, mat2: self @ mat2,
    "aten::mv": lambda self, vec: self @ vec,
    "aten::dot": lambda self, tensor: self @ tensor,
    "aten::einsum": lambda equation, tensors: jnp.einsum(equation, *tensors),
    "aten::addmm": _bilinear_sum,
    "aten::baddbmm": _batched_sum,
    "aten::conv1d": _convolution,
    "aten::conv2d": _convolution,
    "aten::_convolution_mode": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution": _convolution,
    "aten::layer_norm": _layer_norm,
    "aten::group_norm": _group_norm,
    "aten::batch_norm": _batch_norm,
    "aten::instance_norm": _instance_norm,
    "aten::dropout": _dropout,
    "aten::feature_dropout": _dropout,
    "aten::max_pool2d": _max_pool,
    "aten::avg_pool2d": _average_pool,
    "aten::adaptive_avg_pool2d": _adaptive(jnp.mean),
    "aten::adaptive_max_pool2d": lambda self, output_size: (_adaptive(jnp.max)(self, output_size), None),
    "aten::embedding": _embedding,
}
