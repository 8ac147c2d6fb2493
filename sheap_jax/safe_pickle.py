"""Reading the pickles in which FLAME and torch's weights are distributed without running what is in them.

A pickle is a program: `pickle.load` calls whatever it names. Here every name goes through an allow-list of harmless
constructors; anything else stops the reading with the name in the message. NumPy arrays are rebuilt as such, while
SciPy matrices, chumpy variables and torch tensors become arrays through stand-ins, so that none of these packages is
needed (chumpy does not even import with today's NumPy).
"""

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped


class UnsafePickleError(ValueError):
    """The file is no pickle, a damaged one, or one that names something outside the allow-list."""


class _SparseMatrix:
    """Stand-in for scipy.sparse's csc_matrix and csr_matrix."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def toarray(self, *, by_column: bool) -> Shaped[np.ndarray, "m n"]:
        shape = self.state["_shape"] if "_shape" in self.state else self.state["shape"]
        counts = np.diff(self.state["indptr"])
        major, minor = np.repeat(np.arange(len(counts)), counts), self.state["indices"]
        dense = np.zeros(shape, self.state["data"].dtype)
        np.add.at(dense, (minor, major) if by_column else (major, minor), self.state["data"])
        return dense


class _Csc(_SparseMatrix):
    def dense(self) -> Shaped[np.ndarray, "m n"]:
        return self.toarray(by_column=True)


class _Csr(_SparseMatrix):
    def dense(self) -> Shaped[np.ndarray, "m n"]:
        return self.toarray(by_column=False)


class _ChumpyLeaf:
    """Stand-in for chumpy.ch.Ch: its value is the attribute `x`."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def dense(self) -> Shaped[np.ndarray, "..."]:
        return np.asarray(self.state["x"])


class _Storage:
    """The flat memory of torch tensors."""

    def __init__(self, data: Shaped[np.ndarray, "n"]) -> None:
        self.data = data


_TORCH_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Shaped[np.ndarray, "..."]:
    """A tensor is a strided view of its storage; the bounds are checked, since strides come from the file."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride), default=0) < 0 or (np.prod(size) and last >= len(storage.data)):
        raise ValueError("a torch tensor reaches beyond its storage")
    item = storage.data.itemsize
    view = np.lib.stride_tricks.as_strided(storage.data[offset:], size, [step * item for step in stride])
    return view.copy()


def _rebuild_parameter(tensor: Shaped[np.ndarray, "..."], *_: Any) -> Shaped[np.ndarray, "..."]:
    """A torch parameter is a tensor that asks for gradients."""
    return tensor


def load_old_torch(stream: Any) -> Any:
    """torch's format before 1.6: pickles of magic, version, system, object and keys, then the memory of each.

    Tensors are built from memory that comes after them: the object is read once to learn the storages, then again.
    """
    storages: dict[str, _Storage] = {}
    for _ in range(3):
        Unpickler(stream).load()
    start = stream.tell()
    Unpickler(stream, storages=storages).load()
    for key in Unpickler(stream).load():
        (count,) = struct.unpack("<q", stream.read(8))
        kind = storages[key].data.dtype
        storages[key].data = np.frombuffer(stream.read(count * kind.itemsize), kind)
    stream.seek(start)
    return Unpickler(stream, storages=storages).load()


def _storage_from_bytes(data: bytes) -> Any:
    """A storage within another pickle, in the old format."""
    return load_old_torch(io.BytesIO(data))


def _encode_latin1(text: str, encoding: str) -> bytes:
    """`bytes` in protocol 2 pickles of Python 3."""
    if encoding != "latin1":
        raise UnsafePickleError(f"bytes encoded as {encoding!r}, only latin1 is expected")
    return text.encode("latin1")


def _reconstruct_object(cls: type, base: type, state: Any) -> Any:
    """copyreg._reconstructor, for the stand-ins only."""
    if cls not in (_Csc, _Csr, _ChumpyLeaf):
        raise UnsafePickleError(f"a pickled {cls.__name__} is not expected here")
    return cls.__new__(cls)


def _numpy_constructor(name: str) -> Any:
    """NumPy's own constructors: they make arrays, dtypes and scalars and nothing else."""
    multiarray = __import__("numpy._core.multiarray", fromlist=[name])
    return getattr(multiarray, name)


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): _numpy_constructor(name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode_latin1,
    **{(module, "_reconstructor"): _reconstruct_object for module in ("copy_reg", "copyreg")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(f"scipy.sparse.{module}", "csc_matrix"): _Csc for module in ("csc", "_csc")},
    **{(f"scipy.sparse.{module}", "csr_matrix"): _Csr for module in ("csr", "_csr")},
    ("chumpy.ch", "Ch"): _ChumpyLeaf,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _storage_from_bytes,
    **{("torch", name): dtype for name, dtype in _TORCH_DTYPES.items()},
}


class Unpickler(pickle.Unpickler):
    """Resolves names through the allow-list, and torch's persistent ids through `read` or `storages`."""

    def __init__(
        self,
        stream: Any,
        *,
        read: Callable[[str], bytes] | None = None,
        storages: dict[str, _Storage] | None = None,
    ) -> None:
        super().__init__(stream, encoding="latin1")
        self._read, self._storages = read, storages

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(
                f"it names {module}.{name}, which is not on the allow-list: the file is not what it should be, or "
                "malicious; it was not run"
            ) from None

    def persistent_load(self, identifier: Any) -> _Storage:
        kind, dtype, key, _, length = identifier[:5]
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise UnsafePickleError(f"unknown persistent object {kind!r}")
        if self._read is not None:
            return _Storage(np.frombuffer(self._read(key), dtype))
        if self._storages is None:
            raise UnsafePickleError("a torch storage outside a torch file")
        return self._storages.setdefault(key, _Storage(np.zeros(length, dtype)))


def load_pickle(path: str | Path) -> Any:
    """The object in a pickle file, stand-ins turned into arrays.

    Raises:
      UnsafePickleError: names the file and why it was refused.
    """
    with open(path, "rb") as stream:
        return guarded(path, lambda: Unpickler(stream).load())


def load_npy(path: str | Path) -> Any:
    """The object in an `.npy` file that holds a single pickled object, or the array in an ordinary one."""

    def read() -> Any:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            _, _, dtype = header[version](stream)
            if dtype.hasobject:
                return Unpickler(stream).load().item()
        return np.load(path, allow_pickle=False)

    return guarded(path, read)


def guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    """Turn whatever a damaged file can raise into one error that names the file."""
    try:
        return _resolve(read())
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path} was refused: {error}") from error
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UnsafePickleError(f"{path} cannot be read ({type(error).__name__}: {error}): damaged?") from error


def _resolve(value: Any) -> Any:
    """Replace stand-ins by arrays in nested dicts, lists and tuples."""
    if isinstance(value, (_Csc, _Csr, _ChumpyLeaf)):
        return value.dense()
    if isinstance(value, dict):
        return {key: _resolve(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item) for item in value)
    return value
