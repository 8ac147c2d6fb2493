"""What pickles hold in place of arrays (SciPy's sparse matrices, chumpy's variables), read without these packages.

Each class keeps the pickled state and makes an array of it; nothing else is done with the state. chumpy does not even
import with today's NumPy.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Shaped


class StandIn:
    """An object of another package, by its pickled state."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def dense(self) -> Shaped[np.ndarray, "..."]:
        """The array that the object stands for."""
        raise NotImplementedError


class _Sparse(StandIn):
    """SciPy's sparse matrix or array: `_entries` are rows, columns and values; the same place may occur twice."""

    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        raise NotImplementedError

    def dense(self) -> Shaped[np.ndarray, "m n"]:
        rows, columns, values = self._entries()
        array = np.zeros(self.state["_shape"] if "_shape" in self.state else self.state["shape"], values.dtype)
        np.add.at(array, (rows, columns), values)
        return array

    def _compressed(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        counts = np.diff(self.state["indptr"])
        if counts.min(initial=0) < 0 or counts.sum() != len(self.state["indices"]):
            raise ValueError("a sparse matrix's indptr does not count its indices")
        return np.repeat(np.arange(len(counts)), counts), self.state["indices"], self.state["data"]


class Csc(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        columns, rows, values = self._compressed()
        return rows, columns, values


class Csr(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        return self._compressed()


class Coo(_Sparse):
    def _entries(self) -> tuple[Shaped[np.ndarray, "n"], ...]:
        rows, columns = self.state["coords"] if "coords" in self.state else (self.state["row"], self.state["col"])
        return rows, columns, self.state["data"]


class ChumpyLeaf(StandIn):
    """chumpy.ch.Ch: a variable, whose value is the attribute `x`."""

    def dense(self) -> Shaped[np.ndarray, "..."]:
        return np.asarray(resolve(self.state["x"]))


class ChumpySelect(StandIn):
    """chumpy.reordering.Select, what indexing a variable gives: entries `idxs` of the flat `a`."""

    def dense(self) -> Shaped[np.ndarray, "..."]:
        values = np.asarray(resolve(self.state["a"])).ravel()
        return values[np.asarray(self.state["idxs"])].reshape(self.state["preferred_shape"])


def names_only(names: Iterable[Any] = ()) -> set[str]:
    """The built-in set, as chumpy's bookkeeping needs it: of attribute names."""
    names = list(names)
    if not all(type(name) is str for name in names):
        raise ValueError("it holds a set of something else than names")
    return set(names)


def array_of_buffer(
    buffer: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> Shaped[np.ndarray, "..."]:
    """NumPy's _frombuffer, what protocol 5 makes arrays with: only from bytes, only of numbers and text."""
    if type(buffer) not in (bytes, bytearray) or not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise ValueError("it holds an array of something else than bytes")
    flat = np.frombuffer(buffer, dtype)
    if order == "K" and axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def resolve(value: Any) -> Any:
    """Replace stand-ins by arrays in nested dicts, lists and tuples, and in arrays of objects that hold one."""
    if isinstance(value, StandIn):
        return value.dense()
    if isinstance(value, dict):
        return {key: resolve(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.ndim == 0:
        return resolve(value.item())
    return value
