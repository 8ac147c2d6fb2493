"""Sizes, axes, parts and joins of arrays, under TorchScript's names."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from sheap_jax.models.traced.elementwise import Operation, in_order


def _size(self: Array, dim: int | None = None) -> int | list[int]:
    return list(self.shape) if dim is None else self.shape[dim]


def _reshape(x: Array, size: Sequence[int]) -> Array:
    return jnp.reshape(x, [int(length) for length in size])


def _flatten(self: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    if not self.ndim:
        return self.reshape(1)
    first, last = start_dim % self.ndim, end_dim % self.ndim
    return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])


def _unflatten(self: Array, dim: int, sizes: Sequence[int]) -> Array:
    dim %= self.ndim
    known = math.prod(length for length in sizes if length != -1)
    lengths = [self.shape[dim] // known if length == -1 else length for length in sizes]
    return self.reshape(*self.shape[:dim], *lengths, *self.shape[dim + 1 :])


def _squeeze(self: Array, dim: int | list[int] | None = None) -> Array:
    """Axes that are longer than 1 stay."""
    axes = range(self.ndim) if dim is None else dim if isinstance(dim, list) else [dim]
    return jnp.squeeze(self, tuple(axis for axis in axes if self.shape[axis] == 1))


def _expand(self: Array, size: Sequence[int]) -> Array:
    """-1 keeps the length of an axis."""
    own = [1] * (len(size) - jnp.ndim(self)) + list(jnp.shape(self))
    return jnp.broadcast_to(self, [o if length == -1 else length for o, length in zip(own, size, strict=True)])


def _split(self: Array, split_size: int | Sequence[int], dim: int = 0) -> list[Array]:
    length = self.shape[dim]
    if isinstance(split_size, int):
        return jnp.split(self, list(range(split_size, length, split_size)), axis=dim)
    ends = [sum(split_size[: number + 1]) for number in range(len(split_size))]
    return jnp.split(self, ends[:-1], axis=dim)


def _chunk(self: Array, chunks: int, dim: int = 0) -> list[Array]:
    return _split(self, -(-self.shape[dim] // chunks), dim)


def _unbind(self: Array, dim: int = 0) -> list[Array]:
    return [jnp.take(self, place, axis=dim) for place in range(self.shape[dim])]


def _slice(self: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    parts = [slice(None)] * self.ndim
    parts[dim] = slice(start, end, step)
    return self[tuple(parts)]


def _select(self: Array, dim: int, index: int) -> Array:
    return jnp.take(self, index % self.shape[dim] if isinstance(index, int) else index, axis=dim)


def _index(self: Array, indices: Sequence[Any]) -> Array:
    """NumPy's and torch's rules agree; None stands for a whole axis."""
    parts = [slice(None) if part is None else jnp.asarray(part) for part in indices]
    if any(not isinstance(part, slice) and part.dtype == bool for part in parts):
        raise NotImplementedError("a selection whose size depends on what is computed")
    return self[tuple(parts)]


def _narrow(self: Array, dim: int, start: int, length: int) -> Array:
    return _slice(self, dim, start, start + length)


def _pad(self: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """Pairs of widths, the last axis first; negative ones cut."""
    widths = [(0, 0)] * (self.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    cut = tuple(slice(max(-low, 0), size - max(-high, 0)) for (low, high), size in zip(widths, self.shape, strict=True))
    grown = [(max(low, 0), max(high, 0)) for low, high in widths]
    if mode == "constant":
        return jnp.pad(self[cut], grown, constant_values=value or 0)
    names = {"replicate": "edge", "reflect": "reflect", "circular": "wrap"}
    return jnp.pad(self[cut], grown, mode=names[mode])


def _repeat_interleave(self: Array, repeats: int, dim: int | None = None, output_size: int | None = None) -> Array:
    return jnp.repeat(self, repeats, axis=dim)


def _transpose_two(self: Array) -> Array:
    return self.T if self.ndim == 2 else self


SHAPES: dict[str, Operation] = {
    "aten::size": _size,
    "aten::dim": in_order(jnp.ndim),
    "aten::numel": in_order(jnp.size),
    "aten::len": in_order(len),
    "aten::view": in_order(_reshape),
    "aten::reshape": in_order(_reshape),
    "aten::_unsafe_view": in_order(_reshape),
    "aten::view_as": lambda self, other: _reshape(self, other.shape),
    "aten::reshape_as": lambda self, other: _reshape(self, other.shape),
    "aten::flatten": _flatten,
    "aten::unflatten": _unflatten,
    "aten::permute": lambda self, dims: jnp.transpose(self, dims),
    "aten::transpose": lambda self, dim0, dim1: jnp.swapaxes(self, dim0, dim1),
    "aten::swapaxes": lambda self, axis0, axis1: jnp.swapaxes(self, axis0, axis1),
    "aten::movedim": lambda self, source, destination: jnp.moveaxis(self, source, destination),
    "aten::t": _transpose_two,
    "aten::numpy_T": lambda self: self.T,
    "aten::unsqueeze": lambda self, dim: jnp.expand_dims(self, dim),
    "aten::squeeze": _squeeze,
    "aten::expand": _expand,
    "aten::broadcast_to": _expand,
    "aten::expand_as": lambda self, other: jnp.broadcast_to(self, other.shape),
    "aten::repeat": lambda self, repeats: jnp.tile(self, repeats),
    "aten::repeat_interleave": _repeat_interleave,
    "aten::cat": lambda tensors, dim=0: jnp.concatenate(tensors, axis=dim),
    "aten::concat": lambda tensors, dim=0: jnp.concatenate(tensors, axis=dim),
    "aten::stack": lambda tensors, dim=0: jnp.stack(tensors, axis=dim),
    "aten::split": _split,
    "aten::split_with_sizes": lambda self, split_sizes, dim=0: _split(self, split_sizes, dim),
    "aten::chunk": _chunk,
    "aten::unbind": _unbind,
    "aten::slice": _slice,
    "aten::narrow": _narrow,
    "aten::select": _select,
    "aten::index_select": lambda self, dim, index: jnp.take(self, index, axis=dim),
    "aten::index": _index,
    "aten::gather": lambda self, dim, index: jnp.take_along_axis(self, index, axis=dim),
    "aten::flip": lambda self, dims: jnp.flip(self, dims),
    "aten::roll": lambda self, shifts, dims: jnp.roll(self, tuple(shifts), tuple(dims)),
    "aten::pad": _pad,
    "aten::constant_pad_nd": lambda self, pad, value=0: _pad(self, pad, "constant", value),
    "aten::__getitem__": in_order(lambda values, place: values[place]),
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: list(values),
    "prim::ListUnpack": lambda values: values if len(values) > 1 else values[0],
    "prim::TupleUnpack": lambda values: values if len(values) > 1 else values[0],
    "prim::TupleIndex": lambda values, place: values[place],
}
