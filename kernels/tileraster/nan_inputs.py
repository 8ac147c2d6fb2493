"""NaN in an input must reach the output."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def nan_where_input_is(*arrays: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """NaN for images with a NaN in any of their inputs, 0 for the others; to be added to the outputs.

    Comparisons with NaN are false, so that a NaN would silently cull its primitive instead.
    """
    bad = [jnp.any(jnp.isnan(array), axis=tuple(range(1, array.ndim))) for array in arrays]
    return jnp.where(jnp.stack(bad).any(axis=0), jnp.nan, 0.0).astype(arrays[0].dtype)
