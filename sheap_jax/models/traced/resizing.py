"""Interpolation of pictures and position grids, under TorchScript's names: a matrix for each of the two axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax.models.traced.elementwise import Operation


class _Kernel(NamedTuple):
    """Weights by distance in samples, and the distance from which on they are zero."""

    weight: Callable[[np.ndarray], np.ndarray]
    reach: int


def _tent(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(sharpness: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' cubic convolution."""

    def weight(distance: np.ndarray) -> np.ndarray:
        d, a = np.abs(distance), sharpness
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    return weight


_LINEAR, _CUBIC = _Kernel(_tent, 1), _Kernel(_cubic(-0.75), 2)
_CUBIC_SMOOTHED = _Kernel(_cubic(-0.5), 2)  # torch takes another sharpness where it smooths before shrinking


def _matrix(
    kernel: _Kernel, length: int, cells: int, step: float, *, align_corners: bool, smoothed: bool
) -> Float[np.ndarray, "cells length"]:
    """Row i has the weights of the samples for cell i; `step` is the distance of cells in samples."""
    if align_corners:
        places = np.arange(cells) * ((length - 1) / (cells - 1) if cells > 1 else 0.0)
    else:
        places = (np.arange(cells) + 0.5) * step - 0.5
    if smoothed:
        spread = max(step, 1.0)
        weights = kernel.weight((np.arange(length) - places[:, None]) / spread)
        return weights / weights.sum(axis=1, keepdims=True)
    if kernel is _LINEAR:
        places = np.clip(places, 0, length - 1)
    first = np.floor(places).astype(int)
    matrix = np.zeros((cells, length))
    for shift in range(1 - kernel.reach, kernel.reach + 1):
        weights = kernel.weight(places - (first + shift))
        np.add.at(matrix, (np.arange(cells), np.clip(first + shift, 0, length - 1)), weights)
    return matrix


def _cells_and_steps(
    shape: Sequence[int], output_size: Sequence[int] | None, scales: Sequence[float | None]
) -> list[tuple[int, float]]:
    """For each axis the number of cells and their distance, which a given scale factor says exactly."""
    found = []
    for axis, (length, scale) in enumerate(zip(shape, scales, strict=True)):
        cells = math.floor(length * scale) if output_size is None and scale else None
        cells = cells if cells is not None else (output_size or shape)[axis]
        found.append((cells, 1 / scale if scale else length / cells))
    return found


def _nearest(length: int, cells: int, step: float) -> np.ndarray:
    """torch's own: in exactly once or twice the size, the given scale factor does not count."""
    step = length / cells if cells in (length, 2 * length) else step
    return np.minimum(np.floor(np.arange(cells) * step).astype(int), length - 1)


def _resize(kernel: _Kernel | None, *, smoothed: bool = False) -> Operation:
    """For one kernel; None takes the nearest sample."""

    def apply(
        self: Array | None = None,
        output_size: Sequence[int] | None = None,
        align_corners: bool = False,
        scales_h: float | None = None,
        scales_w: float | None = None,
        *,
        input: Array | None = None,
        scale_factors: Sequence[float] | None = None,
    ) -> Array:
        x: Any = input if self is None else self
        sizes = _cells_and_steps(x.shape[-2:], output_size, scale_factors or (scales_h, scales_w))
        for axis, (cells, step) in zip((-2, -1), sizes, strict=True):
            length = x.shape[axis]
            if kernel is None:
                x = jnp.take(x, _nearest(length, cells, step), axis=axis)
            else:
                matrix = _matrix(kernel, length, cells, step, align_corners=align_corners, smoothed=smoothed)
                x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ jnp.asarray(matrix.T, x.dtype), -1, axis)
        return x

    return apply


RESIZING: dict[str, Operation] = {
    "aten::upsample_nearest2d": _resize(None),
    "aten::upsample_bilinear2d": _resize(_LINEAR),
    "aten::upsample_bicubic2d": _resize(_CUBIC),
    "aten::_upsample_bilinear2d_aa": _resize(_LINEAR, smoothed=True),
    "aten::_upsample_bicubic2d_aa": _resize(_CUBIC_SMOOTHED, smoothed=True),
}
