"""Folders that results are written to."""

import tempfile
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
