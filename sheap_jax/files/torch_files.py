"""Reading torch's files without torch and without running what is in them: names and tensors, nothing else."""

import io
import zipfile
from pathlib import Path
from typing import Any

from sheap_jax.files.archives import open_archive
from sheap_jax.files.regular import budget_of, file_size, open_regular
from sheap_jax.files.resolving import Resolver, StandIn
from sheap_jax.files.safe_pickle import Unpickler, UnsafePickleError, guarded, load_old_torch, values_of


class _ScriptObject(StandIn):
    """Stand-in for any module of a TorchScript archive: its attributes, without its code."""

    def make(self, resolver: Resolver) -> Any:
        if type(self.state) is not dict:
            raise ValueError("a module without a table of attributes")
        return resolver(self.state)


class _TypedList(StandIn):
    """TorchScript's typed lists are the lists they are made of."""

    def __init__(self, value: Any, *_: Any) -> None:
        self.value = value

    def make(self, resolver: Resolver) -> Any:
        return resolver(self.value)


class _ScriptUnpickler(Unpickler):
    """Takes the classes that an archive defines itself for plain bags of attributes."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _ScriptObject
        if module == "torch.jit._pickle":
            typed = {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag"}
            if name in typed:
                return _TypedList
        return super().find_class(module, name)


def load_torch(path: str | Path) -> Any:
    """The object in a file of `torch.save`, old format or zip, or the attributes of a TorchScript archive.

    Tensors come as NumPy arrays, modules of an archive as dicts of their attributes.

    Raises:
      UnsafePickleError: names the file and why it was refused or what is damaged.
    """

    def read() -> Any:
        with open_regular(path) as stream:
            size, start = file_size(stream), stream.read(2)
            stream.seek(0)
            if zipfile.is_zipfile(stream):
                stream.seek(0)
                with open_archive(stream) as archive:
                    return _read_zip(archive, size)
            if start == b"PK":
                raise zipfile.BadZipFile("the archive has no end")
            stream.seek(0)
            return values_of(load_old_torch(stream), size=size)

    return guarded(path, read)


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is an archive of torch.jit.save."""
    with open_regular(path) as stream:
        if not zipfile.is_zipfile(stream):
            return False
        with zipfile.ZipFile(stream) as archive:
            return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def _read_zip(archive: zipfile.ZipFile, size: int) -> Any:
    """The content of `data.pkl` in either kind of archive. Constants of a frozen module have numbers for names."""
    programs = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise UnsafePickleError(f"it is a zip archive of {', '.join(archive.namelist()[:5])}, and no file of torch")
    program = programs[0]
    folder = program.removesuffix("data.pkl")
    scripted = f"{folder}constants.pkl" in archive.namelist()
    kind, resolver = _ScriptUnpickler if scripted else Unpickler, Resolver(budget_of(size))

    def load(part: str) -> Any:
        stream = io.BytesIO(archive.read(f"{folder}{part}.pkl"))
        return resolver(kind(stream, storage=lambda key: archive.read(f"{folder}{part}/{key}")).load())

    content = load("data")
    if not scripted:
        return content
    done: dict[int, Any] = {}
    return {"constants": dict(enumerate(load("constants")))} | _attributes(content, done)


def _attributes(value: Any, done: dict[int, Any]) -> Any:
    """Script objects as dicts of their attributes; `done` holds those that occur again."""
    if not isinstance(value, (list, tuple, dict)):
        return value
    if id(value) not in done:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        done[id(value)] = {name: _attributes(item, done) for name, item in items}
    return done[id(value)]
