"""Images of any number through programs that are compiled for few sizes of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

ROUNDING = 0.1  # how far images may leave [0, 1]: resizing overshoots
BUCKETS = (1, 4, 16)  # batch sizes that are compiled, each on its first use; other sizes are padded to one of them


def check_images(images: Array | np.ndarray, *, size: int) -> None:
    """Raises ValueError that says what came unless `images` are floating-point [n, size, size, 3] in [0, 1]."""
    shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
    found = f"{dtype} {list(shape)}"
    if shape[1:] == (size, size, 3) and len(shape) == 4 and jnp.issubdtype(dtype, jnp.floating):
        low, high = (float(bound(images)) if images.size else 0.5 for bound in (np.min, np.max))
        if low >= -ROUNDING and high <= 1 + ROUNDING:
            return
        found += f" from {low:.3g} to {high:.3g}"
    raise ValueError(
        f"images are {found}, they must be floating-point [n, {size}, {size}, 3] in [0, 1]: divide bytes by 255, crop "
        "and resize as `sheap predict` does"
    )


def in_buckets(function: Callable[[Any], Any], rows: Any) -> Any:
    """Apply `function` to a pytree of arrays [n, ...] in slices of few sizes, so that little is compiled.

    Slices of the largest of BUCKETS, then the smallest that holds the rest, padded with copies of the last row. Returns
    what `function` returns, joined along the first axis, as NumPy arrays.

    Raises ValueError without any row.
    """
    count = len(jax.tree.leaves(rows)[0])
    if not count:
        raise ValueError("there is no image to predict from")
    parts = []
    for start in range(0, count, BUCKETS[-1]):
        size = next(size for size in BUCKETS if size >= min(count - start, BUCKETS[-1]))
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(jax.tree.map(np.asarray, function(jax.tree.map(lambda x, chosen=chosen: x[chosen], rows))))
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
