"""Named tensors of a weight file, whatever its format: .safetensors, .pth, TorchScript."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.regular import open_regular
from sheap_jax.files.safetensors_files import read_safetensors
from sheap_jax.files.torch_files import load_torch

Tensors = dict[str, Shaped[np.ndarray, "..."]]

_MOST_TENSORS = 100_000  # a file can name one table any number of times


def _named(value: Any, prefix: str) -> Tensors:
    """Arrays in nested dicts by dotted name; everything else in a checkpoint is left out."""
    found: Tensors = {}
    waiting, visited = [(prefix, value)], 0
    while waiting:
        name, item = waiting.pop()
        visited += 1
        if visited > _MOST_TENSORS:
            raise ValueError(f"it holds more than {_MOST_TENSORS} entries")
        if isinstance(item, np.ndarray):
            found[name.removesuffix(".")] = item
        elif isinstance(item, dict):
            waiting += [(f"{name}{key}.", inner) for key, inner in reversed(item.items())]
    return found


def read_tensors(path: str | Path) -> Tensors:
    """All tensors of a file by name; those in nested dicts and modules get dotted names. Floats come as float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, of an unknown format, or names what is not on the allow-list (safe_pickle).
    """
    kind = foreign_kind(path)
    if kind is not None:
        raise ValueError(f"{path} is {kind}")
    with open_regular(path) as stream:
        start = stream.read(9)
    # The length of a safetensors header is far below 4 GiB: the upper half of its eight bytes is zero.
    content = read_safetensors(path) if start[4:] == b"\0\0\0\0{" else load_torch(path)
    try:
        tensors = _named(content, "")
    except ValueError as error:
        raise ValueError(f"{path} is no file of weights: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors: it is no file of weights")
    floats = (np.float16, np.float64, ml_dtypes.bfloat16)
    return {name: array.astype(np.float32) if array.dtype in floats else array for name, array in tensors.items()}
