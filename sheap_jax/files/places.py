"""Folders that results are written to, and files that may have one of several names."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def check_writable(folder: str | Path) -> None:
    """Raise OSError if a folder cannot be written to, before hours of work are lost. It need not exist yet."""
    path = Path(folder).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = f"{existing}: {error.strerror}"
        raise OSError(f"{folder} cannot be written to ({reason}): choose another folder") from error


def folder_below(folder: Path, name: str) -> Path:
    """The folder of this name below `folder`. ValueError if the name, or a link on the way, leads out of it."""
    inner = folder / name
    lexical = Path(os.path.abspath(inner))
    for outer, path in ((Path(os.path.abspath(folder)), lexical), (folder.resolve(), inner.resolve())):
        if path == outer or not path.is_relative_to(outer):
            raise ValueError(f"{inner} does not lie below {folder}: rename the file, or choose another folder")
    return inner


def first_existing(stem: str | Path, suffixes: Iterable[str]) -> Path:
    """The first of the files `stem` + suffix that is there (a dot in the stem is no suffix).

    Raises FileNotFoundError that names them all.
    """
    paths = [Path(f"{stem}{suffix}") for suffix in suffixes]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"there is no {' or '.join(map(str, paths))}")
