"""Parameters for tests that need some, whatever their values: compiling a real initialiser takes seconds."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def random_params(initialise: Callable[..., Any], *inputs: Any, seed: int = 0) -> Any:
    """Random parameters of the shapes that `initialise(key, *inputs)` would give: biases small, scales about one."""
    shapes = jax.eval_shape(initialise, jax.random.key(0), *inputs)
    rng = np.random.default_rng(seed)

    def draw(path, leaf) -> np.ndarray:
        values = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == "scale":
            values = 1 + 0.1 * values
        elif name == "bias":
            values = 0.1 * values
        elif name == "kernel":
            values = values / np.sqrt(np.prod(leaf.shape[:-1]))
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)
