"""Named tensors of a weight file, whatever its format: .safetensors, .pth, TorchScript."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.torch_files import load_torch

Tensors = dict[str, Shaped[np.ndarray, "..."]]

_SAFETENSORS_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read_tensors(path: str | Path) -> Tensors:
    """All tensors of a file by name; those in nested dicts and modules get dotted names. Floats come as float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, of an unknown format, or names what is not on the allow-list (safe_pickle).
    """
    kind = foreign_kind(path)
    if kind is not None:
        raise ValueError(f"{path} is {kind}")
    with open(path, "rb") as stream:
        start = stream.read(9)
    # The length of a safetensors header is far below 4 GiB: the upper half of its eight bytes is zero.
    content = read_safetensors(path) if start[4:] == b"\0\0\0\0{" else load_torch(path)
    tensors = _named(content, "")
    if not tensors:
        raise ValueError(f"{path} holds no tensors: it is no file of weights")
    floats = (np.float16, np.float64, ml_dtypes.bfloat16)
    return {name: array.astype(np.float32) if array.dtype in floats else array for name, array in tensors.items()}


def read_safetensors(path: str | Path) -> Tensors:
    """The tensors of a .safetensors file: the length of a JSON header, the header, the memory it points into."""
    data = np.memmap(path, np.uint8, mode="r")
    length = int(data[:8].view("<u8")[0])
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _safetensor(data[8 + length :], entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no whole .safetensors file ({error}): fetch it again") from error


def _safetensor(memory: np.ndarray, entry: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    """One tensor; ValueError if it does not lie within the file or has not the length of its shape."""
    first, last = entry["data_offsets"]
    dtype, shape = _SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"]
    if not 0 <= first <= last <= len(memory) or last - first != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"a tensor {shape} at bytes {first} to {last} of {len(memory)}")
    return np.frombuffer(memory[first:last].tobytes(), dtype).reshape(shape)


def _named(value: Any, prefix: str) -> Tensors:
    """Arrays in nested dicts by dotted name; everything else in a checkpoint is left out."""
    if isinstance(value, np.ndarray):
        return {prefix.removesuffix("."): value}
    if not isinstance(value, dict):
        return {}
    found: Tensors = {}
    for name, item in value.items():
        found |= _named(item, f"{prefix}{name}.")
    return found
