"""Reading .safetensors: the length of a JSON header, the header, the memory that it points into."""

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.json_files import parse_json
from sheap_jax.files.regular import why_not_regular

_MOST_HEADER = 10**8  # bytes, the format's own limit
_DTYPES = {
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


def read_safetensors(path: str | Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The tensors of a .safetensors file by name.

    Raises OSError if it cannot be opened; ValueError in one line that names the file.
    """
    reason = why_not_regular(path)
    if reason is not None:
        raise ValueError(f"{path} {reason}")
    try:
        data = np.memmap(path, np.uint8, mode="r")
        length = int.from_bytes(data[:8].tobytes(), "little")
        if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
            raise ValueError(f"a header of {length} bytes in {len(data)}")
        header, memory = parse_json(data[8 : 8 + length].tobytes()), data[8 + length :]
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in entries.values()) > len(memory):
            raise ValueError("its tensors have more bytes than it holds")
        return {name: _tensor(memory, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError) as error:
        raise ValueError(f"{path} is no whole .safetensors file ({error}): fetch it again") from error


def _tensor(memory: np.ndarray, entry: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    """One tensor; ValueError if it does not lie within the file or has not the length of its shape."""
    first, last = entry["data_offsets"]
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    if not all(type(number) is int and number >= 0 for number in (first, last, *shape)):
        raise ValueError(f"a tensor {shape} at bytes {first} to {last}")
    if not first <= last <= len(memory) or last - first != dtype.itemsize * math.prod(shape):
        raise ValueError(f"a tensor {shape} at bytes {first} to {last} of {len(memory)}")
    return np.frombuffer(memory[first:last].tobytes(), dtype).reshape(shape)
