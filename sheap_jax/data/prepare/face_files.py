"""Files that say where faces are, as people have them: tables of any spreadsheet, archives of arrays.

Both name a picture by its path or by any end of it.
"""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from sheap_jax.files.array_files import read_npz
from sheap_jax.files.tables import Row, read_table

__all__ = ["Row", "entry_of", "path_key", "read_arrays", "read_table"]

T = TypeVar("T")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz. ValueError that names the file if it is none, damaged, or holds Python objects."""
    kind = ".npz (a zip file of arrays, as numpy.savez writes it)"
    try:
        return read_npz(path, kind=kind, way_out="write it again")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def path_key(name: str | Path) -> tuple[str, ...]:
    """The parts of a path, the same however its accents are encoded and on which system it was written."""
    return Path(unicodedata.normalize("NFC", os.fspath(name)).replace("\\", "/")).parts


def entry_of(file: Path, entries: Mapping[tuple[str, ...], T]) -> T | None:
    """The entry whose key (`path_key`) is the longest end of a file's path. The path is as named, else resolved."""
    for path in (os.path.abspath(file), file.resolve()):
        parts = path_key(path)
        for start in range(len(parts)):
            if parts[start:] in entries:
                return entries[parts[start:]]
    return None
