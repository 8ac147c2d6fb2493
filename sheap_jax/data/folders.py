"""Folders that results are written to."""

import tempfile
from pathlib import Path


def check_writable(folder: str | Path) -> None:
    """Make a folder and, for a moment, a file in it, before hours of work. OSError that names it if that fails."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}): choose another folder") from error
