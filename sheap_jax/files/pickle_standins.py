"""How pickles hold arrays: NumPy's own, SciPy's sparse matrices, chumpy's variables, read without these packages.

Each class keeps the pickled state and makes an array of it; nothing else is done with the state. chumpy does not even
import with today's NumPy. NumPy's own reader believes what a pickle says of sizes and of objects in memory, so that a
broken or malicious one can crash it. Here arrays are made of plain bytes alone.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped


class StandIn:
    """An object of another package, by its pickled state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def entry(self, key: str) -> Any:
        """An entry of a state that is a dict, stand-ins in it as arrays."""
        return resolve(self.state[key])

    def dense(self) -> Shaped[np.ndarray, "..."]:
        """The array that the object stands for."""
        raise NotImplementedError


class Dtype(StandIn):
    """numpy.dtype: numbers, text and objects; no structures, no dates."""

    def __init__(self, name: str, align: Any = False, copy: Any = True) -> None:
        if not re.fullmatch(r"[biufcSU]\d+|O8?", name):
            raise ValueError(f"arrays of {name!r} are not read")
        self.name = name

    def numpy(self) -> np.dtype:
        order = self.state[1] if self.state else "|"
        if order not in ("<", ">", "|", "=") or (self.state and any(part is not None for part in self.state[2:5])):
            raise ValueError("arrays of structures are not read")
        return np.dtype("O") if self.name.startswith("O") else np.dtype(order + self.name)


class Array(StandIn):
    """numpy.ndarray: shape, dtype, whether columns come first, and bytes, or a list of objects."""

    def dense(self) -> Shaped[np.ndarray, "..."]:
        shape, dtype, columns_first, data = self.state[-4:]
        return _array(data, dtype.numpy(), shape, "F" if columns_first else "C")


def new_array(kind: type, shape: Any, code: Any) -> Array:
    """NumPy's _reconstruct: an array that gets its state afterwards."""
    if kind is not Array:
        raise ValueError("it holds an array of another class than NumPy's")
    return Array()


def scalar(dtype: Dtype, data: Any) -> Any:
    """NumPy's scalar: a number or text of its own type."""
    return _array(data, dtype.numpy(), (), "C")[()]


def array_of_buffer(
    buffer: Any, dtype: Dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> Shaped[np.ndarray, "..."]:
    """NumPy's _frombuffer, what protocol 5 makes arrays with."""
    if order == "K" and axes is not None:
        return _array(buffer, dtype.numpy(), shape, "C").transpose(axes)
    return _array(buffer, dtype.numpy(), shape, "F" if order == "F" else "C")


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> Shaped[np.ndarray, "..."]:
    """An array made of exactly the bytes that its shape needs. They may come as text, as Python 2 wrote them."""
    count = math.prod(shape)
    if dtype.hasobject:
        if type(data) is not list or len(data) != count:
            raise ValueError(f"an array {shape} of objects without a list of {count}")
        flat = np.empty(count, object)
        for index, item in enumerate(data):
            flat[index] = resolve(item)
        return flat.reshape(shape, order=order)
    data = data.encode("latin1") if isinstance(data, str) else data
    if type(data) not in (bytes, bytearray) or len(data) != count * dtype.itemsize:
        raise ValueError(f"an array {shape} of {dtype} without its {count * dtype.itemsize} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order=order)


class _Sparse(StandIn):
    """SciPy's sparse matrix or array: `_entries` are rows, columns and values; the same place may occur twice."""

    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        raise NotImplementedError

    def dense(self) -> Shaped[np.ndarray, "m n"]:
        rows, columns, values = self._entries()
        array = np.zeros(self.entry("_shape" if "_shape" in self.state else "shape"), values.dtype)
        np.add.at(array, (rows, columns), values)
        return array

    def _compressed(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        counts, indices = np.diff(self.entry("indptr")), self.entry("indices")
        if counts.min(initial=0) < 0 or counts.sum() != len(indices):
            raise ValueError("a sparse matrix's indptr does not count its indices")
        return np.repeat(np.arange(len(counts)), counts), indices, self.entry("data")


class Csc(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        columns, rows, values = self._compressed()
        return rows, columns, values


class Csr(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        return self._compressed()


class Coo(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        rows, columns = self.entry("coords") if "coords" in self.state else (self.entry("row"), self.entry("col"))
        return rows, columns, self.entry("data")


class ChumpyLeaf(StandIn):
    """chumpy.ch.Ch: a variable, whose value is the attribute `x`."""

    def dense(self) -> Shaped[np.ndarray, "..."]:
        return np.asarray(self.entry("x"))


class ChumpySelect(StandIn):
    """chumpy.reordering.Select, what indexing a variable gives: entries `idxs` of the flat `a`."""

    def dense(self) -> Shaped[np.ndarray, "..."]:
        chosen = np.asarray(self.entry("a")).ravel()[np.asarray(self.entry("idxs"))]
        return chosen.reshape(self.entry("preferred_shape"))


def names_only(names: Iterable[Any] = ()) -> set[str]:
    """The built-in set, as chumpy's bookkeeping needs it: of attribute names."""
    names = list(names)
    if not all(type(name) is str for name in names):
        raise ValueError("it holds a set of something else than names")
    return set(names)


def resolve(value: Any) -> Any:
    """Replace stand-ins by arrays in nested dicts, lists and tuples; an array of one object is that object."""
    if isinstance(value, Dtype):
        return value.numpy()
    if isinstance(value, StandIn):
        value = value.dense()
    if isinstance(value, dict):
        return {key: resolve(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.ndim == 0:
        return resolve(value.item())
    return value
