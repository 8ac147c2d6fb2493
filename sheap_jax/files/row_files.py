"""Files that grow by rows, one JSON object on each line: metrics, and what happened in a run.

An object in a bucket cannot grow. There such a file is a folder of parts, `metrics.jsonl/000001` and so
on, which are joined when they are read. The last part is written anew as rows come in, whole each time.
A folder that was copied to a disk becomes one file when it is next written to.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from sheap_jax.files.json_files import json_lines
from sheap_jax.files.regular import MOST_TEXT, read_whole
from sheap_jax.files.urls import in_bucket
from sheap_jax.files.whole_file import whole_file

PART_ROWS = 500  # of a part; with twenty numbers in a row, some hundred kilobytes
PART_SECONDS = 10.0  # that a bucket may lag behind: it takes one new version of an object a second at most


class RowFile:
    """Appends rows to a file. On a disk each is flushed at once: a killed process loses none.

    In a bucket a kill may cost the rows since the last `flush`, and those of the last ten seconds at most.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: IO[str] | None = None
        self._part, self._rows, self._waiting, self._sent = 0, [], False, -PART_SECONDS
        if in_bucket(path):
            _gather(path)
            self._part = 1 + max((int(part.name) for part in parts(path)), default=0)
        else:
            _join(path)
            self._file = path.open("a")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        line = json.dumps(row) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            return
        self._rows.append(line)
        self._waiting = True
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._sent >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Return once all rows are where a kill cannot reach them."""
        if self._waiting:
            _write_lines(_part_path(self.path, self._part), self._rows)
            self._waiting, self._sent = False, time.monotonic()
            if len(self._rows) >= PART_ROWS:
                self._part, self._rows = self._part + 1, []

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row, of those that are rare."""
    file = RowFile(path)
    file.write(row)
    file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, or of all its parts. A last line that a kill has cut off, and damaged ones, are left out.

    Raises OSError if it is not there; ValueError in one line that names it, if it is no file or too large.
    """
    if not path.exists() and _joined(path).is_file():
        path = _joined(path)
    return [row for file in _files(path) for row in json_lines(read_whole(file, most=MOST_TEXT), file)]


def keep_rows(path: Path, keeps: Callable[[dict[str, Any]], bool]) -> None:
    """Remove the rows at the end that `keeps` does not want. An interruption here loses no other row."""
    if not in_bucket(path):
        _join(path)
    if not path.exists():
        return
    for file in reversed(_files(path)):
        data = read_whole(file)
        lines = [json.dumps(row) + "\n" for row in json_lines(data, file) if keeps(row)]
        if "".join(lines).encode() == data:
            continue
        if lines or file == path:
            _write_lines(file, lines)
        else:
            file.unlink()


def parts(path: Path) -> list[Path]:
    """The parts of a file that is a folder of them, in order; none for one that is a file."""
    if not path.is_dir():
        return []
    return sorted((part for part in path.iterdir() if part.name.isdecimal()), key=lambda part: int(part.name))


def _files(path: Path) -> list[Path]:
    """What the rows are in: parts, of which a folder may have none, or the file itself."""
    return parts(path) if path.is_dir() else [path]


def _gather(path: Path) -> None:
    """Make one file that was copied to a bucket the first part."""
    if path.is_file():
        _write_lines(_part_path(path, 0), [path.read_text()])
        path.unlink()


def _join(path: Path) -> None:
    """Make a folder of parts on a disk one file in its place. After a kill at any moment the next call ends it."""
    joined, aside = _joined(path), path.with_name(f".{path.name}.parts")
    if path.is_dir():
        texts = [part.read_bytes() for part in parts(path)]
        with whole_file(joined) as temporary:
            temporary.write_bytes(b"".join(text if text.endswith(b"\n") else text + b"\n" for text in texts))
        shutil.rmtree(aside, ignore_errors=True)
        path.replace(aside)
    if not path.exists() and joined.is_file():
        joined.replace(path)
        shutil.rmtree(aside, ignore_errors=True)


def _joined(path: Path) -> Path:
    """Where the rows of all parts are, between the moments in which the folder loses its name and the file gets it."""
    return path.with_name(f".{path.name}.joined")


def _part_path(path: Path, number: int) -> Path:
    return path / f"{number:06d}"


def _write_lines(path: Path, lines: list[str]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("".join(lines))
