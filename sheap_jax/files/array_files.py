"""Opening files of arrays that others made, without running what is in them: pickles, .npy, .npz, torch's files.

The content says what a file is, not its name, so that renamed and re-saved files are read as well. Sizes that a file
states are compared with the bytes that it has, before memory is taken for them.
"""

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from sheap_jax.files.archives import open_archive
from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.regular import file_size, open_regular
from sheap_jax.files.safe_pickle import Unpickler, UnsafePickleError, guarded, one_line, values_of
from sheap_jax.files.torch_files import load_torch

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled
_PLAIN_KINDS = "biufcSU"  # numbers, truth values, text
_PART = 2**24  # bytes that are read at once
Arrays = dict[str, Any]  # NumPy arrays by name


def load_any(path: str | Path) -> Any:
    """The content of a file of any of these kinds; an .npz as a dict.

    Raises:
      UnsafePickleError: names the file and what it is instead, or why it was refused.
    """
    with open_regular(path) as stream:
        start = stream.read(len(_OLD_TORCH))
        archive = zipfile.is_zipfile(stream)
    if start == _OLD_TORCH:
        return load_torch(path)
    if start.startswith(b"\x93NUMPY"):
        return load_npy(path)
    if not archive:
        return load_pickle(path)
    names = guarded(path, lambda: _names(path))
    if all(name.endswith(".npy") for name in names):
        return guarded(path, lambda: _npz_with_objects(path))
    if any(name.endswith("/data.pkl") for name in names):
        return load_torch(path)
    raise UnsafePickleError(f"{path} is {foreign_kind(path)}")


def load_pickle(path: str | Path) -> Any:
    """The object in a pickle file, stand-ins turned into arrays. Errors as in `load_any`."""

    def read() -> Any:
        with open_regular(path) as stream:
            return values_of(Unpickler(stream).load(), size=file_size(stream))

    return guarded(path, read)


def load_npy(path: str | Path) -> Any:
    """The object in an `.npy` file that holds a single pickled one, or the array in an ordinary one."""

    def read() -> Any:
        with open_regular(path) as stream:
            return read_npy_stream(stream, file_size(stream), objects=True)

    return guarded(path, read)


def read_npy(path: str | Path) -> np.ndarray:
    """The array of plain numbers or text in an `.npy` file.

    Raises OSError if it cannot be opened; ValueError in one line if the file is no whole .npy, or holds Python objects.
    """

    def read() -> np.ndarray:
        with open_regular(path) as stream:
            return read_npy_stream(stream, file_size(stream), objects=False)

    return guarded(path, read)


def read_npz(
    path: str | Path, names: Iterable[str] | None = None, *, kind: str = ".npz", way_out: str = "fetch it again"
) -> Arrays:
    """The arrays of plain numbers or text in an `.npz`: all, or those of `names` that are there.

    Args:
      kind: what the file should be, for the message.
      way_out: what to do if it is not, for the message.

    Raises OSError if it cannot be opened; ValueError in one line if it is no whole .npz, or holds Python objects.
    """
    with open_regular(path) as stream:
        try:
            return _read_npz(stream, names, objects=False)
        except Exception as error:  # zip, zlib and NumPy raise various errors on damaged files
            found = foreign_kind(path)
            if found is not None:
                raise ValueError(f"{path} is {found}; expected {kind}") from error
            raise ValueError(f"{path} is damaged or no {kind} ({one_line(error)}): {way_out}") from error


def _names(path: str | Path) -> list[str]:
    with open_regular(path) as stream, open_archive(stream) as archive:
        return archive.namelist()


def _npz_with_objects(path: str | Path) -> dict[str, Any]:
    with open_regular(path) as stream:
        return _read_npz(stream, None, objects=True)


def _read_npz(stream: BinaryIO, names: Iterable[str] | None, *, objects: bool) -> dict[str, Any]:
    with open_archive(stream) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        found = {}
        for name in entries if names is None else [name for name in names if name in entries]:
            with archive.open(entries[name]) as part:
                found[name] = read_npy_stream(part, entries[name].file_size, objects=objects)
        return found


def read_npy_stream(stream: IO[bytes], size: int, *, objects: bool) -> Any:
    """The array of an .npy of `size` bytes; with `objects` also what it pickles, through the allow-list.

    Raises ValueError if it is no .npy, or its header asks for other than the bytes that follow.
    """
    version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
    if version not in _NPY_HEADERS:
        raise ValueError(f"an .npy of version {version}, read are 1.0 and 2.0")
    shape, columns_first, dtype = _NPY_HEADERS[version](stream)
    left = size - stream.tell()
    if dtype.hasobject:
        if not objects:
            raise ValueError("it holds Python objects, not plain arrays")
        whole = io.BytesIO(stream.read(left))
        return values_of(Unpickler(whole).load(), size=size)
    count = math.prod(shape)
    if dtype.kind not in _PLAIN_KINDS or min(shape, default=0) < 0 or count * dtype.itemsize != left:
        raise ValueError(f"an array {shape} of {dtype} in {left} bytes")
    if not left:  # no entries, or texts without a letter
        return np.zeros(shape if count == 0 else (), dtype)
    data = np.frombuffer(_exactly(stream, left), dtype)
    return data.reshape(shape, order="F" if columns_first else "C")


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    """So many bytes, without a second copy of them in memory."""
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        part = stream.read(min(_PART, count - filled))
        if not part:
            raise EOFError(f"{count} bytes should be there, it has {filled}")
        view[filled : filled + len(part)] = part
        filled += len(part)
    return data
