"""Position embeddings of patch grids: initial values, and grids of another size."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DINOV2_OFFSET = 0.1  # added to the new size before the ratio of sizes is taken, in the published networks


def resize_positions(
    positions: Float[Array, "r c d"], rows: int, columns: int, *, method: str = "smooth"
) -> Float[Array, "t d"]:
    """Position embeddings for a grid of another size, row-major, by bicubic interpolation.

    Methods: "smooth" (Keys' kernel with a = -0.5, which keeps linear fields), "offset" (as DINOv2 was published:
    PyTorch's kernel with a = -0.75 and the ratio of sizes 0.1 too large), "antialias" (as its variant with registers:
    a = -0.5, the kernel widened where the grid shrinks). ValueError for another method.
    """
    if method not in ("smooth", "offset", "antialias"):
        raise ValueError(f"position grids are resized by smooth, offset or antialias, not by {method!r}")
    if positions.shape[:2] != (rows, columns):
        if method == "offset":
            row_matrix, column_matrix = (
                offset_bicubic_matrix(size, new) for size, new in zip(positions.shape, (rows, columns), strict=False)
            )
            precise = jax.lax.Precision.HIGHEST
            positions = jnp.einsum("yr,xc,rcd->yxd", row_matrix, column_matrix, positions, precision=precise)
        else:
            shape = (rows, columns, positions.shape[-1])
            positions = jax.image.resize(positions, shape, "bicubic", antialias=method == "antialias")
    return positions.reshape(rows * columns, -1)


@cache
def offset_bicubic_matrix(size: int, new: int) -> Float[np.ndarray, "n s"]:
    """Weights of PyTorch's bicubic interpolation of `size` samples to `new` with the scale (new + 0.1) / size.

    Neighbours beyond the border count as the border's sample.
    """
    place = (np.arange(new) + 0.5) * size / (new + DINOV2_OFFSET) - 0.5
    first = np.floor(place).astype(int)
    matrix = np.zeros((new, size))
    for neighbour in range(-1, 3):
        weight = _keys_kernel(np.abs(place - first - neighbour), -0.75)
        np.add.at(matrix, (np.arange(new), np.clip(first + neighbour, 0, size - 1)), weight)
    return matrix.astype(np.float32)


def _keys_kernel(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel at distances 0 <= x <= 2 (Keys 1981, eq. 4)."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x <= 1, near, a * (x**3 - 5 * x**2 + 8 * x - 4))


def sine_positions(key: Array, shape: tuple[int, int, int]) -> Float[Array, "r c d"]:
    """Initial positions: sines and cosines of the row in one half of the channels, of the column in the other.

    Learned from there on. A small transformer trained from nothing then need not first learn where its patches are.
    """
    del key
    rows, columns, width = shape
    rates = 1.0 / 10000.0 ** (np.arange(width // 4) / (width // 4))
    encoded = np.zeros(shape, np.float32)
    for half, angle in enumerate((np.arange(rows)[:, None, None] * rates, np.arange(columns)[None, :, None] * rates)):
        start = half * 2 * len(rates)
        encoded[..., start : start + len(rates)] = np.sin(angle)
        encoded[..., start + len(rates) : start + 2 * len(rates)] = np.cos(angle)
    return jnp.asarray(encoded)
