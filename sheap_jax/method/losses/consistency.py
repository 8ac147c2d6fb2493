"""Geometric consistency between the surfels, which explain the picture, and the mesh, which is the result.

Without these terms the surfels could drift off the mesh and explain the picture alone (the paper's ablation: NoW median
0.97 -> 1.15 mm). Both directions are open: gradients reach the surfels and, through face normals and the z-buffer's
depth, the vertices of the mesh.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sheap_jax.geometry import normalize, quaternion_to_matrix

# Surfels cover a pixel when most of its light comes from them; below, depth and normal are those of a soft border.
COVERED_ALPHA = 0.5


def face_normals(vertices: Float[Array, "*b v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "*b f 3"]:
    """Unit normals of the triangles, outward by the right-hand rule; a degenerate triangle has a short one."""
    first, second, third = (vertices[..., faces[:, corner], :] for corner in range(3))
    # Edges of millimetres have squared areas near 1e-12 m^4: `normalize` must not take them for degenerate.
    return normalize(jnp.cross(second - first, third - first), epsilon=1e-24)


def normal_error(
    quats: Float[Array, "*b n 4"],
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    parent_face: Int[Array, "n"],
) -> Float[Array, "*b n"]:
    """1 - cos of the angle between each surfel's normal and that of its parent face, in [0, 2].

    Args:
        quats: rotations of the surfels in the world, wxyz; the third column is the normal.
        vertices: posed mesh in the same world, metres.
        faces: triangles of the mesh.
        parent_face: face of each surfel.
    """
    surfel = quaternion_to_matrix(quats)[..., :, 2]
    parent = face_normals(vertices, faces)[..., parent_face, :]
    return 1.0 - jnp.sum(surfel * parent, axis=-1)


def both_visible(alpha: Float[Array, "*p"], mesh_mask: Bool[Array, "*p"]) -> Bool[Array, "*p"]:
    """Pixels that surfels cover and where the mesh is hit."""
    return (alpha > COVERED_ALPHA) & mesh_mask.astype(bool)


def depth_error(
    depth: Float[Array, "*p"],
    alpha: Float[Array, "*p"],
    mesh_depth: Float[Array, "*p"],
    mesh_mask: Bool[Array, "*p"],
    *,
    length_scale: float,
    cutoff: float,
) -> Float[Array, "*p"]:
    """Distance between the surfels' expected depth (depth / alpha) and the mesh's, zero where `both_visible` is false.

    L1 up to `cutoff`, constant beyond: at silhouettes a pixel may see the nose's surfel and the cheek's mesh, and such
    a jump says nothing about either.

    Args:
        depth: composited sum of z, metres.
        alpha: composited opacity.
        mesh_depth: z-buffer of the mesh, metres; anything outside its mask, also infinity.
        mesh_mask: where the mesh is hit.
        length_scale: metres that count as 1.
        cutoff: metres beyond which a difference is an outlier.
    """
    valid = both_visible(alpha, mesh_mask)
    # Both operands are made safe before the division: a masked NaN or infinity would still poison the gradient.
    expected = jnp.where(valid, depth, 0.0) / jnp.where(valid, alpha, 1.0)
    difference = jnp.abs(expected - jnp.where(valid, mesh_depth, 0.0))
    return jnp.minimum(difference, cutoff) / length_scale
