"""Photographs from files to arrays."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def read_photograph(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture, upright (EXIF), 8 bits per channel; what is transparent is black, as what lies outside a crop.

    Raises FileNotFoundError if the file is missing, ValueError if it is no picture or a damaged one.
    """
    import cv2

    if not Path(path).exists():
        raise FileNotFoundError(f"the photograph {path} is missing")
    data = np.fromfile(path, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED if _is_transparent_png(data) else cv2.IMREAD_COLOR)
    except cv2.error:  # an empty file, or more pixels than OpenCV takes
        pixels = None
    if pixels is None:
        raise ValueError(f"{path} is no picture, or a damaged one")
    if pixels.shape[2] == 4:
        opaque = pixels[..., 3:] / np.iinfo(pixels.dtype).max
        pixels = np.round(pixels[..., :3] * opaque * (255 / np.iinfo(pixels.dtype).max)).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1])


def _is_transparent_png(data: UInt8[np.ndarray, "n"]) -> bool:
    """Whether the header of a PNG says that it has an alpha channel (colour types 4 and 6)."""
    return data[:4].tobytes() == b"\x89PNG" and len(data) > 25 and bool(data[25] & 4)


def first_existing(stem: str | Path, suffixes: Iterable[str]) -> Path:
    """The first of the files `stem` + suffix that is there (a dot in the stem is no suffix).

    Raises FileNotFoundError that names them all.
    """
    paths = [Path(f"{stem}{suffix}") for suffix in suffixes]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"there is no {' or '.join(map(str, paths))}")
