"""Files that are there whole or not at all."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sheap_jax.files.urls import in_bucket, open_path


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to, moved to `path` if the block ends without an error, else removed.

    Makes the folder. The suffix is the same, for libraries that go by it. The name cannot be guessed, and the file is
    new: nobody can put a link in its place. A link at `path` is replaced, not followed.

    Args:
      durable: wait until the disk has it, so that a power cut leaves the old file or the new one; not worth its time
        for files that are made again easily, such as the pictures of a video.

    In a bucket the path is of a local file, which becomes the object if the block ends without an error.
    """
    path = open_path(path)
    if in_bucket(path):
        with tempfile.TemporaryDirectory(prefix="sheap-") as folder:
            made = Path(folder) / path.name
            made.touch()
            yield made
            bucket: Any = path
            bucket.upload(made)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:60]}.{secrets.token_hex(8)}.tmp{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        if durable:
            to_disk(temporary)
        temporary.replace(path)
        if durable:
            to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():
            raise  # some file systems cannot sync folders
    finally:
        os.close(descriptor)
