"""Opening what is a file and nothing else, and how large things may be before memory is taken for them."""

import errno
import io
import os
import stat
from typing import BinaryIO

from sheap_jax.files.urls import open_path, scheme_of

MOST_TEXT = 2**31  # bytes of a mesh or table as text, which takes several times that as numbers
_SPARE = 2**28  # bytes that a file may become, however small it is
_GROWTH = 8  # times its size that the arrays of a pickle may take


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file for reading bytes. A pipe or device is none: to read it may wait, or never end.

    An object of a bucket is read whole.

    Raises OSError as `open`; IsADirectoryError for a folder; ValueError for anything else that is no file.
    """
    if scheme_of(path) is not None:
        return io.BytesIO(open_path(path).read_bytes())
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory, not a file", os.fspath(path))
    raise ValueError(f"{path} is a pipe or a device: name a file, copy what it gives into one")


def why_not_regular(path: str | os.PathLike[str]) -> str | None:
    """Why a path cannot be read as a file, None if it can as far as its kind goes, or if nothing is there."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):
        return None
    return "is a folder: name a file" if stat.S_ISDIR(mode) else "is a pipe or a device: name a file"


def read_whole(path: str | os.PathLike[str], *, most: int = MOST_TEXT) -> bytes:
    """All bytes of a file of at most `most`. ValueError that names the file if it has more, or is no file."""
    with open_regular(path) as stream:
        size = file_size(stream)
        if size > most:
            raise ValueError(f"{path} has {size} bytes, at most {most} are read of such a file")
        try:
            return stream.read()
        except MemoryError as error:
            raise ValueError(f"{path}: there is not enough memory for its {size} bytes") from error


def file_size(stream: BinaryIO) -> int:
    """Bytes of an open file; its position stays."""
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return size


def budget_of(size: int) -> int:
    """Bytes that the values of a file of `size` bytes may take."""
    return _SPARE + _GROWTH * size
