"""Photographs of the benchmarks, from files to arrays."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def read_photograph(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture. Raises FileNotFoundError if the file is missing, ValueError if it is no picture."""
    import cv2

    if not Path(path).exists():
        raise FileNotFoundError(f"the photograph {path} is missing")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path} is no picture")
    return np.ascontiguousarray(pixels[..., ::-1])


def first_existing(stem: str | Path, suffixes: Iterable[str]) -> Path:
    """The first of the files `stem` + suffix that is there (a dot in the stem is no suffix).

    Raises FileNotFoundError that names them all.
    """
    paths = [Path(f"{stem}{suffix}") for suffix in suffixes]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"there is no {' or '.join(map(str, paths))}")
