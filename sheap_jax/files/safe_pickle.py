"""Reading the pickles in which FLAME and torch's weights are distributed without running what is in them.

A pickle is a program: `pickle.load` calls whatever it names. Here every name goes through an allow-list of stand-ins
(pickle_standins.py, torch_standins.py); anything else stops the reading with the name in the message. None of the
packages NumPy, SciPy, chumpy and torch is called for what a pickle names. pickle_machine.py runs the program,
resolving.py makes arrays of what it leaves, array_files.py opens the files.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.pickle_machine import Machine
from sheap_jax.files.pickle_standins import (
    AnyObject,
    Array,
    ArrayOfBuffer,
    ChumpyLeaf,
    ChumpySelect,
    Coo,
    Csc,
    Csr,
    Dtype,
    EmptyBytes,
    Latin1Bytes,
    NameSet,
    NdarrayClass,
    ObjectClass,
    OrderedPairs,
    Reconstructor,
    Scalar,
)
from sheap_jax.files.regular import budget_of, file_size, open_regular
from sheap_jax.files.resolving import Resolver, StandIn, UnsafePickleError
from sheap_jax.files.torch_standins import STORAGES, Parameter, Storage, StorageType, Tensor

__all__ = ["Unpickler", "UnsafePickleError", "guarded", "load_old_torch", "one_line", "outline", "values_of"]

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_SPARSE = {"csc": Csc, "csr": Csr, "coo": Coo}
_ALLOWED: dict[tuple[str, str], type[StandIn]] = {
    **{(module, "_reconstruct"): Array for module in _MULTIARRAY},
    **{(module, "scalar"): Scalar for module in _MULTIARRAY},
    **{(f"numpy.{core}.numeric", "_frombuffer"): ArrayOfBuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): NdarrayClass,
    ("numpy", "dtype"): Dtype,
    ("collections", "OrderedDict"): OrderedPairs,
    ("_codecs", "encode"): Latin1Bytes,
    **{(module, "bytes"): EmptyBytes for module in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): Reconstructor for module in ("copy_reg", "copyreg")},
    **{(module, "object"): ObjectClass for module in ("__builtin__", "builtins")},
    **{(module, "set"): NameSet for module in ("__builtin__", "builtins")},
    **{(f"scipy.sparse.{kind}", f"{kind}_matrix"): found for kind, found in _SPARSE.items()},  # SciPy before 1.8
    **{(f"scipy.sparse._{kind}", f"{kind}_matrix"): found for kind, found in _SPARSE.items()},
    **{(f"scipy.sparse._{kind}", f"{kind}_array"): found for kind, found in _SPARSE.items()},
    ("chumpy.ch", "Ch"): ChumpyLeaf,
    ("chumpy.reordering", "Select"): ChumpySelect,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): Parameter,
    **{("torch", name): kind for name, kind in STORAGES.items()},
}


class Unpickler(Machine):
    """Resolves names through the allow-list. `storage` gives torch's memory by the key that names it."""

    def __init__(self, stream: BinaryIO, *, storage: Callable[[str], bytes] | None = None) -> None:
        super().__init__(stream)
        self._storage = storage
        self.storages: dict[str, Storage] = {}  # by key

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(
                f"it names {module}.{name}, which is not on the allow-list of what arrays need; it was not run. If you "
                "trust it, save its arrays as .npz where it was made"
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
            raise UnsafePickleError("it holds a persistent object of an unknown kind")
        kind, key = pid[1:3]
        if self._storage is None:
            raise UnsafePickleError("a torch storage outside a torch file")
        if not (isinstance(kind, type) and issubclass(kind, StorageType)) or type(key) is not str:
            raise UnsafePickleError("it holds a torch storage of an unknown kind")
        return self.storages.setdefault(key, Storage(kind, key, self._storage))


def load_old_torch(stream: BinaryIO) -> Any:
    """torch's format before 1.6: pickles of magic, version, system, object and keys, then the memory of each storage.

    Stand-ins are left in it; they make arrays of the memory that comes after them.
    """
    memory: dict[str, bytes] = {}
    for _ in range(3):
        Unpickler(stream).load()
    content = Unpickler(stream, storage=memory.__getitem__)
    result, size = content.load(), file_size(stream)
    for key in Unpickler(stream).load():
        (count,) = struct.unpack("<q", stream.read(8))
        length = count * content.storages[key].dtype.itemsize
        if not 0 <= length <= size - stream.tell():
            raise ValueError(f"a torch storage of {length} bytes, {size - stream.tell()} are left")
        memory[key] = stream.read(length)
    return result


class NestedStorage(StandIn):
    """torch.storage._load_from_bytes: a storage within another pickle, in the old format."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def make(self, resolver: Resolver) -> Any:
        data = resolver(self.data)
        if type(data) is not bytes:
            raise ValueError("a torch storage without its bytes")
        resolver.spend(len(data))
        return resolver(load_old_torch(io.BytesIO(data)))


_ALLOWED["torch.storage", "_load_from_bytes"] = NestedStorage


class _Outliner(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), AnyObject)


def values_of(content: Any, *, size: int) -> Any:
    """The content of a pickle with arrays for stand-ins; `size` is that of the file, in bytes."""
    return Resolver(budget_of(size))(content)


def outline(path: str | Path) -> Any:
    """The content of a refused pickle without what it was refused for, to say what it is. None if even that fails."""
    try:
        with open_regular(path) as stream:
            return values_of(_Outliner(stream).load(), size=file_size(stream))
    except Exception:  # a broken pickle can fail in any way
        return None


def guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    """What `read` gives. Whatever it raises becomes one error that names the file."""
    try:
        return read()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path} was refused: {one_line(error)}") from error
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
    reason = f"{type(error).__name__}: {one_line(error)}"
    return UnsafePickleError(f"{path} cannot be read ({reason}): it is not whole, or of another kind; fetch it again")


def one_line(error: Exception) -> str:
    """The message in one line: names in a broken file may hold line breaks."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return " ".join(str(error).split()) or type(error).__name__
