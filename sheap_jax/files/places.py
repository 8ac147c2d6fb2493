"""Folders that results are written to, and files that may have one of several names."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sheap_jax.files.urls import in_bucket, open_path


def check_writable(folder: str | Path) -> None:
    """Raise OSError if a folder cannot be written to, before hours of work are lost. It need not exist yet."""
    path = open_path(folder).absolute()
    if in_bucket(path):
        probe: Any = path / f".writable-{secrets.token_hex(8)}"
        probe.create(b"")
        probe.unlink()
        return
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


def check_listable(folder: Path) -> None:
    """Raise OSError if a folder cannot be listed. In a bucket it may be empty, that is not there."""
    if in_bucket(folder):
        next(folder.glob("*"), None)
    else:
        os.listdir(folder)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder. A folder that cannot be listed is an error: its files would seem to be missing."""
    if in_bucket(folder):
        bucket: Any = folder
        yield from bucket.files_below()
        return

    def refuse(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place) / name for name in names)


def move_below(path: Path, folder: Path) -> None:
    """Move a file or a folder with all that is in it into a folder, in place of what has its name there.

    In a bucket all is copied before the first object is removed, and objects of other names stay.
    """
    if in_bucket(path):
        bucket: Any = path
        bucket.move_below(folder)
        return
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / path.name, ignore_errors=True)
    path.replace(folder / path.name)


def free_bytes(folder: Path) -> int | None:
    """Bytes that can still be written to the disk of a folder; None for a bucket, which is never full."""
    return None if in_bucket(folder) else shutil.disk_usage(folder).free


def upload_all(made: Path, folder: Path) -> None:
    """Copy all files below a local folder to a folder of a bucket."""
    for file in files_below(made):
        place: Any = folder / str(file.relative_to(made))
        place.upload(file)


def first_existing(stem: str | Path, suffixes: Iterable[str]) -> Path:
    """The first of the files `stem` + suffix that is there (a dot in the stem is no suffix).

    Raises FileNotFoundError that names them all.
    """
    paths = [Path(f"{stem}{suffix}") for suffix in suffixes]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"there is no {' or '.join(map(str, paths))}")
