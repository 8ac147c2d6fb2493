"""Cameras and rotations as every primitive needs them."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def to_camera(points: Float[Array, "b n 3"], viewmats: Float[Array, "b 4 4"]) -> Float[Array, "b n 3"]:
    """World points in camera space: p_c = R p + t."""
    view = viewmats[:, None, :3]
    return sum((view[..., k] * points[..., k, None] for k in range(3)), view[..., 3])


def turn(matrices: Float[Array, "*#b 3 3"], rotations: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """Products of matrices. As plain sums: for so little, a GPU's and a TPU's matrix units take longer to start."""
    products = [matrices[..., :, k, None] * rotations[..., None, k, :] for k in range(3)]
    return products[0] + products[1] + products[2]


def rotation_matrix(quats: Float[Array, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrices of wxyz quaternions of any length; a zero quaternion gives the identity."""
    square = jnp.sum(quats * quats, axis=-1, keepdims=True)
    unit = quats / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    w, x, y, z = jnp.moveaxis(unit, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return jnp.stack(rows, axis=-1).reshape(*quats.shape[:-1], 3, 3)
