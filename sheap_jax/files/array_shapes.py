"""Whether the arrays of a file are of the kinds and shapes that they should be."""

import os
from collections.abc import Mapping
from typing import Any

_KINDS = {"number": "biuf", "whole": "biu", "text": "U"}


def check_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], wanted: Mapping[str, str], *, way_out: str
) -> None:
    """Raise ValueError in one line for the first array of another kind or shape; absent ones are not looked at.

    Args:
      wanted: by name, kind and axes: "number n 3" is an array [n, 3]. Kinds are number, whole and text. An axis is a
        length, or a letter for the length that the first array with this letter has.
      way_out: what to do, for the message.
    """
    lengths: dict[str, int] = {}
    for name, text in wanted.items():
        if name not in arrays:
            continue
        kind, *axes = text.split()
        shape, dtype = arrays[name].shape, arrays[name].dtype
        if len(shape) == len(axes):
            for axis, length in zip(axes, shape, strict=True):
                if not axis.isdecimal():
                    lengths.setdefault(axis, length)
        expected = [int(axis) if axis.isdecimal() else lengths.get(axis) for axis in axes]
        fits = dtype.kind in _KINDS[kind] or arrays[name].size == 0  # NumPy gives what is empty any kind
        if not fits or list(shape) != expected:
            pairs = zip(axes, expected, strict=True)
            shown = ", ".join(axis if length is None else str(length) for axis, length in pairs)
            kinds = {"number": "numbers", "whole": "whole numbers", "text": "texts"}[kind]
            raise ValueError(f"{path}: {name} has shape {shape} of {dtype}, expected [{shown}] of {kinds}: {way_out}")
