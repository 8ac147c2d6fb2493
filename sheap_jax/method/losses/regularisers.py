"""Regularisers: what keeps coefficients plausible and surfels near their triangles. One value per number or surfel.

The surfel terms are those of GaussianAvatars (Qian et al. 2024, eq. 5-6): nothing inside the threshold, linear outside.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_OFFSET = 1.0  # of the triangle's size: a surfel may lie anywhere over its triangle at no cost
MAX_SCALE = 0.6  # of the triangle's size; larger discs flicker when the triangle turns


def coefficient_energy(coefficients: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Squared coefficients: minus twice the log-prior of a model whose unit is the standard deviation."""
    return coefficients * coefficients


def rotation_energy(
    rotations: Float[Array, "*b j 3"], *, joint_names: Sequence[str], joints: Sequence[str]
) -> Float[Array, "*b k"]:
    """Squared angle in radians^2 of the joints named in `joints`, in their order.

    For neck and eyes: the picture fixes them poorly, and without a cost they share out the root's rotation.
    Raises ValueError when the model has no joint of that name.
    """
    missing = [name for name in joints if name not in joint_names]
    if missing:
        raise ValueError(f"joints {missing} are not among those of the model: {list(joint_names)}")
    chosen = jnp.array([joint_names.index(name) for name in joints], dtype=jnp.int32)
    return jnp.sum(rotations[..., chosen, :] ** 2, axis=-1)


def offset_excess(offset: Float[Array, "*b n 3"]) -> Float[Array, "*b n 3"]:
    """How far each local coordinate of a surfel's centre lies beyond its triangle's size: max(|x| - 1, 0)."""
    return jnp.maximum(jnp.abs(offset) - MAX_OFFSET, 0.0)


def scale_excess(scale: Float[Array, "*b n k"]) -> Float[Array, "*b n k"]:
    """How far each local standard deviation of a surfel exceeds 0.6 of its triangle's size: max(s - 0.6, 0)."""
    return jnp.maximum(scale - MAX_SCALE, 0.0)
