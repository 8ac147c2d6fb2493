"""Opening files of arrays that others made, without running what is in them: pickles, .npy, .npz, torch's files.

The content says what a file is, not its name, so that renamed and re-saved files are read as well.
"""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.safe_pickle import Unpickler, UnsafePickleError, guarded
from sheap_jax.files.torch_files import load_torch

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled


def load_any(path: str | Path) -> Any:
    """The content of a file of any of these kinds; an .npz as a dict.

    Raises:
      UnsafePickleError: names the file and what it is instead, or why it was refused.
    """
    with open(path, "rb") as stream:
        start = stream.read(len(_OLD_TORCH))
    if start == _OLD_TORCH:
        return load_torch(path)
    if start.startswith(b"\x93NUMPY"):
        return load_npy(path)
    if not zipfile.is_zipfile(path):
        return load_pickle(path)
    names = guarded(path, lambda: _names(path))
    if all(name.endswith(".npy") for name in names):
        return guarded(path, lambda: _read_npz(path))
    if any(name.endswith("/data.pkl") for name in names):
        return load_torch(path)
    raise UnsafePickleError(f"{path} is {foreign_kind(path)}")


def load_pickle(path: str | Path) -> Any:
    """The object in a pickle file, stand-ins turned into arrays. Errors as in `load_any`."""

    def read() -> Any:
        with open(path, "rb") as stream:
            return Unpickler(stream).load()

    return guarded(path, read)


def load_npy(path: str | Path) -> Any:
    """The object in an `.npy` file that holds a single pickled one, or the array in an ordinary one."""

    def read() -> Any:
        with open(path, "rb") as stream:
            return _read_npy(stream)

    return guarded(path, read)


def _names(path: str | Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _read_npz(path: str | Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as stream:
                found[name.removesuffix(".npy")] = _read_npy(stream)
    return found


def _read_npy(stream: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(stream)
    _, _, dtype = _NPY_HEADERS[version](stream)
    if dtype.hasobject:
        return Unpickler(stream).load()
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
