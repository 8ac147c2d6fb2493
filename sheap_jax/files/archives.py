"""Zip archives, checked before anything in them is unpacked."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from sheap_jax.files.regular import file_size

_SPARE = 2**30  # bytes that an archive may unpack to, however small it is
_RATIO = 100  # times its size beyond that; zeros are packed a thousand times smaller
_MOST_NAMES = 2**20


@contextmanager
def open_archive(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive in an open file. ValueError if it would unpack to far more than the file has."""
    size = file_size(stream)
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if len(entries) > _MOST_NAMES or unpacked > max(_SPARE, _RATIO * size):
            raise ValueError(f"its {len(entries)} entries would unpack from {size} bytes to {unpacked}")
        yield archive
