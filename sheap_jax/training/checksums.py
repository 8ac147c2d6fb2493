"""Whether a checkpoint is as it was written, by a checksum of every file that lies beside it.

A wrong checksum proves damage. A file system that answers with an error proves nothing: such errors are passed on.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sheap_jax.files.json_files import read_json
from sheap_jax.files.places import files_below
from sheap_jax.files.urls import in_bucket
from sheap_jax.files.whole_file import whole_file

AT_ONCE = 8  # files that are read from a bucket


class Verdict(NamedTuple):
    """What the checksums say of a checkpoint."""

    damaged: str | None  # the first file that is missing or differs; None if there is none
    vouched: bool  # whether there were checksums to compare with


def checksums(directory: Path) -> dict[str, str]:
    """SHA-256 of every file below a directory, by relative path. Raises OSError if something cannot be read."""
    paths = sorted(files_below(directory))
    with ThreadPoolExecutor(AT_ONCE if in_bucket(directory) else 1) as readers:
        digests = list(readers.map(_digest, paths))
    return {str(path.relative_to(directory)): digest for path, digest in zip(paths, digests, strict=True)}


def write_checksums(directory: Path, file: Path) -> None:
    """Store the checksums of a directory in `file`."""
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(checksums(directory), indent=1))


def compare(directory: Path, file: Path) -> Verdict:
    """Compare a directory with the checksums in `file`. Raises OSError if something cannot be read.

    Without the file, or where it holds no checksums, nothing is vouched for: a process may have died between a
    checkpoint and its checksums. A folder without any file is no checkpoint.
    """
    if next(files_below(directory), None) is None:
        return Verdict(f"{directory} is empty", vouched=False)
    expected = _stored(file)
    if expected is None:
        return Verdict(None, vouched=False)
    actual = checksums(directory)
    changed = (name for name, digest in expected.items() if actual.get(name) != digest)
    return Verdict(next((str(directory / name) for name in changed), None), vouched=True)


def _stored(file: Path) -> dict[str, str] | None:
    """The checksums in a file; None if there are none in it, or no file."""
    try:
        content = read_json(file)
    except (FileNotFoundError, ValueError):
        return None
    strings = isinstance(content, dict) and all(isinstance(digest, str) for digest in content.values())
    return content if strings and content else None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
