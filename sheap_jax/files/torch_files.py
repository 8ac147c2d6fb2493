"""Reading torch's files without torch and without running what is in them: names and tensors, nothing else."""

import io
import zipfile
from pathlib import Path
from typing import Any

from sheap_jax.files.safe_pickle import Unpickler, UnsafePickleError, guarded, load_old_torch


class _ScriptObject:
    """Stand-in for any module of a TorchScript archive: its attributes, without its code."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _ScriptUnpickler(Unpickler):
    """Takes the classes that an archive defines itself for plain bags of attributes."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _ScriptObject
        if module == "torch.jit._pickle":
            typed = {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag"}
            if name in typed:
                return _first
        return super().find_class(module, name)


def _first(value: Any, *_: Any) -> Any:
    """TorchScript's typed lists are the lists they are made of."""
    return value


def load_torch(path: str | Path) -> Any:
    """The object in a file of `torch.save`, old format or zip, or the attributes of a TorchScript archive.

    Tensors come as NumPy arrays, modules of an archive as dicts of their attributes.

    Raises:
      UnsafePickleError: names the file and why it was refused or what is damaged.
    """

    def read() -> Any:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read_zip(archive)
        with open(path, "rb") as stream:
            if stream.read(2) == b"PK":
                raise zipfile.BadZipFile("the archive has no end")
            stream.seek(0)
            return load_old_torch(stream)

    return guarded(path, read)


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is an archive of torch.jit.save."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def _read_zip(archive: zipfile.ZipFile) -> Any:
    """The content of `data.pkl` in either kind of archive. Constants of a frozen module have numbers for names."""
    programs = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise UnsafePickleError(f"it is a zip archive of {', '.join(archive.namelist()[:5])}, and no file of torch")
    program = programs[0]
    folder = program.removesuffix("data.pkl")
    scripted = f"{folder}constants.pkl" in archive.namelist()
    kind = _ScriptUnpickler if scripted else Unpickler

    def load(part: str) -> Any:
        stream = io.BytesIO(archive.read(f"{folder}{part}.pkl"))
        return kind(stream, read=lambda key: archive.read(f"{folder}{part}/{key}")).load()

    content = load("data")
    if not scripted:
        return content
    return {"constants": dict(enumerate(load("constants")))} | _attributes(content)


def _attributes(value: Any) -> Any:
    """Script objects as dicts of their attributes."""
    if isinstance(value, _ScriptObject):
        return {name: _attributes(item) for name, item in value.state.items()}
    if isinstance(value, (list, tuple)):
        return dict(enumerate(_attributes(item) for item in value))
    if isinstance(value, dict):
        return {name: _attributes(item) for name, item in value.items()}
    return value
