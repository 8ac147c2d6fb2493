"""Zip archives, checked before anything in them is unpacked."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from sheap_jax.files.regular import budget_of, file_size

_SPARE = 2**30  # bytes that an archive may unpack to, however small it is
_RATIO = 100  # times its size beyond that; zeros are packed a thousand times smaller
_NAME = 2**10  # bytes of memory that a name takes, its place in the archive included


@contextmanager
def open_archive(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive in an open file. ValueError if it would unpack to far more than the file has."""
    size = file_size(stream)
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        check_contents(len(entries), sum(entry.file_size for entry in entries), size=size)
        yield archive


def check_contents(names: int, unpacked: int, *, size: int) -> None:
    """ValueError if an archive of `size` bytes has more names, or would unpack to more bytes, than files have."""
    if names * _NAME > budget_of(size) or unpacked > max(_SPARE, _RATIO * size):
        raise ValueError(f"its {names} entries would unpack from {size} bytes to {unpacked}")
