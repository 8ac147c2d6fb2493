"""Binding of surfels to the triangles of a posed mesh.

Every surfel lives in the frame of its parent triangle and follows it rigidly, and stretches with it along the two
directions of its sides. This is GaussianAvatars (Qian et al., CVPR 2024) with two changes that surfels need: the third
axis is the triangle's normal, and each axis has its own scale (SHeaP, section 3.3: S_p = diag(s_u, s_v, s_n)).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sheap_jax.geometry import matrix_to_quaternion, normalize, quaternion_multiply
from sheap_jax.types import LocalSurfels, PrototypeState, Surfels

# Triangles with a side or height below one micrometre have no direction of their own there: a fixed axis serves.
MIN_LENGTH = 1e-6


class TriangleFrames(NamedTuple):
    """Frame and size of triangles (v0, v1, v2)."""

    rotation: Float[Array, "*b 3 3"]  # columns: tangent t along v1 - v0, b = n x t, normal n
    scale: Float[Array, "*b 3"]  # metres: s_u = |v1 - v0|, s_v = height over that side, s_n = min(s_u, s_v)


def triangle_frames(corners: Float[Array, "*b 3 3"]) -> TriangleFrames:
    """Frames of triangles given by their corners (second last axis), metres.

    The frame depends on which corner comes first, so the order of a face's corners must never change. Degenerate
    triangles get a proper rotation, the scale MIN_LENGTH and zero gradients instead of NaN.
    """
    side = corners[..., 1, :] - corners[..., 0, :]
    other = corners[..., 2, :] - corners[..., 0, :]
    tangent = _unit_or(side, jnp.array([1.0, 0.0, 0.0], side.dtype))
    height = other - jnp.sum(other * tangent, axis=-1, keepdims=True) * tangent
    bitangent = _unit_or(height, _perpendicular(tangent))
    normal = jnp.cross(tangent, bitangent)
    along_u = jnp.maximum(jnp.sum(side * tangent, axis=-1), MIN_LENGTH)
    along_v = jnp.maximum(jnp.sum(height * bitangent, axis=-1), MIN_LENGTH)
    return TriangleFrames(
        rotation=jnp.stack([tangent, bitangent, normal], axis=-1),
        scale=jnp.stack([along_u, along_v, jnp.minimum(along_u, along_v)], axis=-1),
    )


def bind(
    local: LocalSurfels,
    prototypes: PrototypeState,
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    *,
    isotropic: bool = False,
) -> Surfels:
    """World surfels of `local` on the posed mesh.

    mean = anchor + R (S offset), rotation = R R_local, scale = S * scale, with R, S of the parent triangle and the
    anchor given by the prototype's barycentric coordinates. R S R_local would be a shear, which no surfel can show;
    the form here agrees with it where R_local is the identity. With `isotropic`, all entries of S are the mean of s_u
    and s_v, as in GaussianAvatars: what the method's anisotropic S is compared with.
    """
    corners = _corners(vertices, faces[prototypes.parent_face])
    frames = triangle_frames(corners)
    size = frames.scale
    if isotropic:
        size = jnp.broadcast_to(jnp.mean(size[..., :2], axis=-1, keepdims=True), size.shape)
    anchor = _weighted_sum(prototypes.barycentric, corners)
    offset = _weighted_sum(size * local.offset, jnp.swapaxes(frames.rotation, -1, -2))
    return Surfels(
        means=anchor + offset,
        quats=quaternion_multiply(matrix_to_quaternion(frames.rotation), normalize(local.rotation)),
        scales=size * local.scale,
        opacities=local.opacity,
        albedo=local.albedo,
    )


def _weighted_sum(weights: Float[Array, "*#b 3"], vectors: Float[Array, "*#b 3 3"]) -> Float[Array, "*#b 3"]:
    """Sum of weights[k] vectors[k]. Written out: a TPU would pad products of 3 x 3 matrices forty times over, and round
    them to bfloat16."""
    first, second, third = (weights[..., k, None] * vectors[..., k, :] for k in range(3))
    return first + second + third


def _corners(vertices: Float[Array, "*b v 3"], triangles: Int[Array, "n 3"]) -> Float[Array, "*b n 3 3"]:
    """Corners (second last axis) of the triangles."""
    # Rows of all batch entries side by side: gathers, and the scatters of their gradients, touch whole rows.
    rows = jnp.moveaxis(vertices, -2, 0)[triangles]  # [n, 3, *b, 3]
    return jnp.moveaxis(rows, (0, 1), (-3, -2))


def _unit_or(vector: Float[Array, "*b 3"], fallback: Float[Array, "*#b 3"]) -> Float[Array, "*b 3"]:
    """Unit vector along `vector`, or along `fallback` where `vector` is shorter than MIN_LENGTH."""
    long_enough = jnp.sum(vector * vector, axis=-1, keepdims=True) > MIN_LENGTH**2
    safe = jnp.where(long_enough, vector, fallback)
    return safe / jnp.sqrt(jnp.sum(safe * safe, axis=-1, keepdims=True))


def _perpendicular(unit: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """Some vector perpendicular to `unit`: the cross product with the axis it leans to least."""
    axis = jnp.eye(3, dtype=unit.dtype)[jnp.argmin(jnp.abs(unit), axis=-1)]
    return jnp.cross(unit, axis)
