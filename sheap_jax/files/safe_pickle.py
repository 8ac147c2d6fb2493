"""Reading the pickles in which FLAME and torch's weights are distributed without running what is in them.

A pickle is a program: `pickle.load` calls whatever it names. Here every name goes through an allow-list of harmless
constructors; anything else stops the reading with the name in the message. Arrays of NumPy, matrices of SciPy,
variables of chumpy (pickle_standins.py) and tensors of torch are made by stand-ins, so that none of these packages is
called. array_files.py opens the files.
"""

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.pickle_standins import (
    Array,
    ChumpyLeaf,
    ChumpySelect,
    Coo,
    Csc,
    Csr,
    Dtype,
    StandIn,
    array_of_buffer,
    names_only,
    new_array,
    resolve,
    scalar,
)


class UnsafePickleError(ValueError):
    """A file cannot be read: it is damaged, of another kind, or names something outside the allow-list."""


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
    if min((offset, *size, *stride), default=0) < 0 or (math.prod(size) and last >= len(storage.data)):
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


def _empty_bytes() -> bytes:
    """`bytes()`, which those pickles call for no bytes at all."""
    return b""


def _reconstruct_object(cls: type, base: type, state: Any) -> Any:
    """copyreg._reconstructor, for the stand-ins only."""
    if not issubclass(cls, StandIn):
        raise UnsafePickleError(f"a pickled {cls.__name__} is not expected here")
    return cls.__new__(cls)


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_SPARSE = {"csc": Csc, "csr": Csr, "coo": Coo}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): new_array for module in _MULTIARRAY},
    **{(module, "scalar"): scalar for module in _MULTIARRAY},
    **{(f"numpy.{core}.numeric", "_frombuffer"): array_of_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode_latin1,
    **{(module, "bytes"): _empty_bytes for module in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _reconstruct_object for module in ("copy_reg", "copyreg")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(module, "set"): names_only for module in ("__builtin__", "builtins")},
    **{(f"scipy.sparse.{kind}", f"{kind}_matrix"): found for kind, found in _SPARSE.items()},  # SciPy before 1.8
    **{(f"scipy.sparse._{kind}", f"{kind}_matrix"): found for kind, found in _SPARSE.items()},
    **{(f"scipy.sparse._{kind}", f"{kind}_array"): found for kind, found in _SPARSE.items()},
    ("chumpy.ch", "Ch"): ChumpyLeaf,
    ("chumpy.reordering", "Select"): ChumpySelect,
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
                f"it names {module}.{name}, which is not on the allow-list of what arrays need; it was not run. If you "
                "trust it, save its arrays as .npz where it was made"
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


class _Inert(StandIn):
    """In place of an object whose name is not on the allow-list: ignores whatever the pickle does to it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def dense(self) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Outliner(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Inert)


def outline(path: str | Path) -> Any:
    """The content of a refused pickle without what it was refused for, to say what it is. None if even that fails."""
    try:
        with open(path, "rb") as stream:
            return resolve(_Outliner(stream).load())
    except Exception:  # a broken pickle can fail in any way
        return None


def guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    """What `read` gives, with arrays for stand-ins. Whatever it raises becomes one error that names the file."""
    try:
        return resolve(read())
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path} was refused: {_line(error)}") from error
    except OSError as error:
        if error.filename is not None:  # the file cannot be opened
            raise
        raise _unreadable(path, error) from error
    except Exception as error:  # a broken pickle can fail in any way
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> UnsafePickleError:
    kind = foreign_kind(path)
    if kind is not None:
        return UnsafePickleError(f"{path} is {kind}")
    return UnsafePickleError(
        f"{path} cannot be read ({type(error).__name__}: {_line(error)}): it is not whole, or of another kind; fetch "
        "it again"
    )


def _line(error: Exception) -> str:
    """The message in one line: names in a broken file may hold line breaks."""
    return " ".join(str(error).split())
