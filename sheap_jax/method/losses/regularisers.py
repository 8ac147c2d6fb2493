"""Regularisers: what keeps coefficients plausible and surfels near their triangles. One value per number or surfel.

The surfel terms are those of GaussianAvatars (Qian et al. 2024, eq. 5-6): nothing inside the threshold, linear outside.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_OFFSET = 1.0  # of the triangle's size: a surfel may lie anywhere over its triangle at no cost
MAX_SCALE = 0.6  # of the triangle's size; larger discs flicker when the triangle turns


def coefficient_energy(coefficients: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Squared coefficients: minus twice the log-prior of a model whose unit is the standard deviation."""
    return coefficients * coefficients


def offset_excess(offset: Float[Array, "*b n 3"]) -> Float[Array, "*b n 3"]:
    """How far each local coordinate of a surfel's centre lies beyond its triangle's size: max(|x| - 1, 0)."""
    return jnp.maximum(jnp.abs(offset) - MAX_OFFSET, 0.0)


def scale_excess(scale: Float[Array, "*b n k"]) -> Float[Array, "*b n k"]:
    """How far each local standard deviation of a surfel exceeds 0.6 of its triangle's size: max(s - 0.6, 0)."""
    return jnp.maximum(scale - MAX_SCALE, 0.0)
