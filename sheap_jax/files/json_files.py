"""Reading JSON that anybody may have written."""

import json
import logging
import os
from typing import Any

from sheap_jax.files.regular import MOST_TEXT, read_whole

log = logging.getLogger(__name__)

MOST_BYTES = 2**28  # an evaluation of a hundred thousand images has a tenth of it


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises OSError if it cannot be opened; ValueError in one line that names the file.
    """
    data = read_whole(path, most=MOST_BYTES)
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error})") from error


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a file with one on each line, as `json_lines`.

    Raises OSError if the file cannot be opened; ValueError in one line that names it, if it is no file or too large.
    """
    return json_lines(read_whole(path, most=MOST_TEXT), path)


def json_lines(data: bytes, path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects in the lines of the file at `path`. A last line that was cut off by a kill is left out.

    Other lines that are no objects are left out too, and that is said: one flipped bit must not cost a whole log.
    """
    lines = data.split(b"\n")
    rows = [_object(line) for line in lines[:-1] if line.strip()]  # the last one has no end, or is empty
    damaged = rows.count(None)
    if damaged:
        log.warning("%s: %d of %d lines are damaged and left out", path, damaged, len(rows))
    return [row for row in (*rows, _object(lines[-1])) if row is not None]


def as_read(value: Any) -> Any:
    """A value as it comes back from a JSON file: tuples become lists, keys strings."""
    return json.loads(json.dumps(value))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def parse_json(data: bytes | str) -> Any:
    """The content of a JSON text. ValueError for anything else, also for brackets that are too deep in one another."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except MemoryError as error:
        raise ValueError("there is not enough memory for it") from error
