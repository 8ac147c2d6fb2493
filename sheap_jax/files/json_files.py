"""Reading JSON that anybody may have written."""

import json
import os
from typing import Any

from sheap_jax.files.regular import read_whole

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


def parse_json(data: bytes | str) -> Any:
    """The content of a JSON text. ValueError for anything else, also for brackets that are too deep in one another."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except MemoryError as error:
        raise ValueError("there is not enough memory for it") from error
