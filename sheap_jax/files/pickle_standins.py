"""How pickles hold arrays: NumPy's own, SciPy's sparse matrices, chumpy's variables, read without these packages.

A class here stands for a constructor that a pickle names. While the pickle is read, it only keeps what the pickle gives
it. Afterwards `Resolver` makes an array of it. chumpy does not even import with today's NumPy. NumPy's own reader
believes what a pickle says of sizes and of objects in memory, so that a broken or malicious one can crash it. Here
arrays are made of plain bytes alone.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.resolving import Resolver, StandIn, UnsafePickleError, plain_dict


class Dtype(StandIn):
    """numpy.dtype: numbers, text and objects; no structures, no dates."""

    def __init__(self, name: str, align: Any = False, copy: Any = True) -> None:
        if type(name) is not str or not re.fullmatch(r"[biufcSU][0-9]{1,9}|O8?", name):
            raise ValueError(f"arrays of {name!r} are not read")
        self.name = name

    def make(self, resolver: Resolver) -> np.dtype:
        order = "|"
        if self.state is not None:
            if type(self.state) is not tuple or any(part is not None for part in self.state[2:5]):
                raise ValueError("arrays of structures are not read")
            order = self.state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"arrays in the order {order!r} are not read")
        return np.dtype("O") if self.name.startswith("O") else np.dtype(order + self.name)


class NdarrayClass(StandIn):
    """The class numpy.ndarray itself, an argument of `Array`."""


class Array(StandIn):
    """NumPy's _reconstruct, and what it gives: shape, dtype, whether columns come first; bytes or a list of objects."""

    def __init__(self, kind: type, shape: Any = (), code: Any = None) -> None:
        if kind is not NdarrayClass:
            raise ValueError("it holds an array of another class than NumPy's")

    def make(self, resolver: Resolver) -> Any:
        if type(self.state) is not tuple or len(self.state) < 4:
            raise ValueError("an array without shape, type and bytes")
        shape, dtype, columns_first, data = self.state[-4:]
        array = array_of(resolver, data, dtype, shape, "F" if columns_first else "C")
        return array.item() if array.dtype.hasobject and array.ndim == 0 else array


class Scalar(StandIn):
    """NumPy's scalar: a number or text of its own type."""

    def __init__(self, dtype: Dtype, data: Any) -> None:
        self.dtype, self.data = dtype, data

    def make(self, resolver: Resolver) -> Any:
        return array_of(resolver, self.data, self.dtype, (), "C")[()]


class ArrayOfBuffer(StandIn):
    """NumPy's _frombuffer, what protocol 5 makes arrays with."""

    def __init__(self, buffer: Any, dtype: Dtype, shape: Any, order: Any, axes: Any = None) -> None:
        self.arguments = buffer, dtype, shape
        self.order, self.axes = order, axes

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "..."]:
        if self.order == "K" and self.axes is not None:
            return array_of(resolver, *self.arguments, "C").transpose(check_shape(self.axes))
        return array_of(resolver, *self.arguments, "F" if self.order == "F" else "C")


class Latin1Bytes(StandIn):
    """_codecs.encode, which protocols of Python 2 use for `bytes`."""

    def __init__(self, text: str, encoding: str) -> None:
        if type(text) is not str or encoding != "latin1":
            raise UnsafePickleError(f"bytes encoded as {encoding!r}, only latin1 is expected")
        self.text = text

    def make(self, resolver: Resolver) -> bytes:
        resolver.spend(len(self.text))
        return self.text.encode("latin1")


class EmptyBytes(StandIn):
    """`bytes()`, which those pickles call for no bytes at all."""

    def __init__(self) -> None:
        pass

    def make(self, resolver: Resolver) -> bytes:
        return b""


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape, if it is one: at most 32 numbers from 0 on."""
    if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise ValueError("the shape of an array is none")
    return shape


def array_of(
    resolver: Resolver, data: Any, dtype: Any, shape: Any, order: Literal["C", "F"]
) -> Shaped[np.ndarray, "..."]:
    """An array made of exactly the bytes that its shape needs. They may come as text, as Python 2 wrote them."""
    if not isinstance(dtype, Dtype):
        raise ValueError("the type of an array is none")
    kind, count = resolver(dtype), math.prod(check_shape(shape))
    if kind.hasobject:
        if type(data) is not list or len(data) != count:
            raise ValueError(f"an array {shape} of objects without a list of {count}")
        resolver.spend(8 * count)
        flat = np.empty(count, object)
        for index, item in enumerate(data):
            flat[index] = resolver(item)
        return flat.reshape(shape, order=order)
    size = count * kind.itemsize
    if isinstance(data, str) and len(data) == size:
        resolver.spend(size)
        data = data.encode("latin1")
    data = resolver(data)
    if type(data) not in (bytes, bytearray) or len(data) != size:
        raise ValueError(f"an array {shape} of {kind} without its {size} bytes")
    resolver.spend(size)
    return np.frombuffer(data, kind).reshape(shape, order=order).copy(order=order)


def numbers(value: Any, what: str) -> Shaped[np.ndarray, "..."]:
    """The value as an array of plain numbers."""
    flat = type(value) is list and all(type(item) in (int, float) for item in value)
    if not flat and not isinstance(value, (np.ndarray, np.generic, int, float)):
        raise ValueError(f"{what} holds no numbers")
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{what} holds no numbers")
    return array


class _Sparse(StandIn):
    """SciPy's sparse matrix or array: `_entries` are rows, columns and values; the same place may occur twice."""

    def _entries(self, resolver: Resolver) -> tuple[Any, ...]:
        raise NotImplementedError

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "m n"]:
        rows, columns, values = (numbers(part, "a sparse matrix") for part in self._entries(resolver))
        shape = tuple(int(n) for n in self.entry(resolver, "_shape" if "_shape" in self.state else "shape"))
        check_shape(shape)
        for index, length in ((rows, shape[0]), (columns, shape[1])):
            if index.size and (index.min() < 0 or index.max() >= length):
                raise ValueError(f"a sparse matrix {shape} has an entry outside")
        resolver.spend(math.prod(shape) * values.itemsize)
        array = np.zeros(shape, values.dtype)
        np.add.at(array, (rows, columns), values)
        return array

    def _compressed(self, resolver: Resolver) -> tuple[Any, ...]:
        starts = numbers(self.entry(resolver, "indptr"), "indptr")
        counts, indices = np.diff(starts), numbers(self.entry(resolver, "indices"), "indices")
        if counts.ndim != 1 or counts.min(initial=0) < 0 or counts.max(initial=0) > len(indices):
            raise ValueError("a sparse matrix's indptr does not count its indices")
        if counts.sum() != len(indices):
            raise ValueError("a sparse matrix's indptr does not count its indices")
        return np.repeat(np.arange(len(counts)), counts), indices, self.entry(resolver, "data")


class Csc(_Sparse):
    def _entries(self, resolver: Resolver) -> tuple[Any, ...]:
        columns, rows, values = self._compressed(resolver)
        return rows, columns, values


class Csr(_Sparse):
    def _entries(self, resolver: Resolver) -> tuple[Any, ...]:
        return self._compressed(resolver)


class Coo(_Sparse):
    def _entries(self, resolver: Resolver) -> tuple[Any, ...]:
        if "coords" in self.state:
            rows, columns = self.entry(resolver, "coords")
        else:
            rows, columns = self.entry(resolver, "row"), self.entry(resolver, "col")
        return rows, columns, self.entry(resolver, "data")


class ChumpyLeaf(StandIn):
    """chumpy.ch.Ch: a variable, whose value is the attribute `x`."""

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "..."]:
        value = self.entry(resolver, "x")
        return value if isinstance(value, np.ndarray) else numbers(value, "a variable of chumpy")


class ChumpySelect(StandIn):
    """chumpy.reordering.Select, what indexing a variable gives: entries `idxs` of the flat `a`."""

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "..."]:
        source = numbers(self.entry(resolver, "a"), "the source of a selection").ravel()
        chosen = numbers(self.entry(resolver, "idxs"), "a selection")
        resolver.spend(chosen.size * source.itemsize)
        return source[chosen].reshape(tuple(self.entry(resolver, "preferred_shape")))


class NameSet(StandIn):
    """The built-in set, as chumpy's bookkeeping needs it: of attribute names."""

    def __init__(self, names: Any = ()) -> None:
        if type(names) not in (list, tuple) or not all(type(name) is str for name in names):
            raise ValueError("it holds a set of something else than names")
        self.names = frozenset(names)

    def make(self, resolver: Resolver) -> set[str]:
        return set(self.names)


class ObjectClass(StandIn):
    """The class object itself, an argument of `Reconstructor`."""


class Reconstructor(StandIn):
    """copyreg._reconstructor: an object that gets its state afterwards, in protocols 0 and 1."""

    def __new__(cls, kind: Any, base: Any = None, state: Any = None) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, (_Sparse, ChumpyLeaf, ChumpySelect, AnyObject))):
            raise UnsafePickleError("it makes an object that is not expected here")
        return kind.__new__(kind)


class AnyObject(StandIn):
    """In place of an object whose name is not on the allow-list: ignores whatever the pickle does to it."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def put(self, items: Iterable[tuple[Any, Any]]) -> None:
        pass

    def extend(self, values: list[Any]) -> None:
        pass

    def make(self, resolver: Resolver) -> "AnyObject":
        return self


class OrderedPairs(StandIn):
    """collections.OrderedDict, which becomes a dict. What else torch hangs onto it is left out."""

    def __init__(self, pairs: Any = ()) -> None:
        self.items = plain_dict(pairs.items() if type(pairs) is dict else [tuple(pair) for pair in pairs])

    def put(self, items: Iterable[tuple[Any, Any]]) -> None:
        self.items.update(plain_dict(items))

    def make(self, resolver: Resolver) -> dict[Any, Any]:
        return resolver(self.items)
