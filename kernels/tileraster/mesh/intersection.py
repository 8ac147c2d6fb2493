"""A face and the ray of a pixel.

Intersection as in Woop, Benthin and Wald, "Watertight Ray/Triangle Intersection" (JCGT 2013): vertices are sheared so
that the pixel's ray becomes the z axis; the three edge functions are then 2D cross products of small, accurate
numbers, and neighbouring faces compute the same number (up to sign and the last bit) for their shared edge, so that no
ray slips between them. It needs no clipping: vertices behind the camera are fine.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Hit(NamedTuple):
    """Intersection of pixel rays with one face each."""

    depth: Float[Array, "*p"]
    barycentric: Float[Array, "*p 3"]
    inside: Bool[Array, "*p"]


def intersect(corners: Float[Array, "*#p 3 3"], ray: Float[Array, "*#p 2"]) -> Hit:
    """Intersect faces (three camera-space corners as rows) with rays (x, y, 1) through the origin.

    Edges belong to both of their faces. Degenerate faces (edge-on, zero area) are never hit.
    """
    x = corners[..., 0] - ray[..., None, 0] * corners[..., 2]
    y = corners[..., 1] - ray[..., None, 1] * corners[..., 2]
    edge = jnp.stack([x[..., j] * y[..., k] - y[..., j] * x[..., k] for j, k in ((1, 2), (2, 0), (0, 1))], axis=-1)
    total = edge[..., 0] + edge[..., 1] + edge[..., 2]
    hit = jnp.all(edge >= 0, axis=-1) | jnp.all(edge <= 0, axis=-1)
    # Twice the projected area. Where it is rounding error (fused multiply-adds leave some), the face is degenerate.
    size = jnp.max(jnp.abs(x), axis=-1) * jnp.max(jnp.abs(y), axis=-1)
    hit &= jnp.abs(total) > 4 * jnp.finfo(total.dtype).eps * size
    barycentric = edge / jnp.where(hit, total, 1.0)[..., None]
    depth = jnp.sum(barycentric * corners[..., 2], axis=-1)
    return Hit(depth=depth, barycentric=barycentric, inside=hit)


def pixel_rays(intrinsics: Float[Array, "b 3 3"], *, width: int, height: int) -> Float[Array, "b h w 2"]:
    """Directions (x, y, 1) of the rays through the pixel centres."""
    y, x = jnp.mgrid[:height, :width]
    index = jnp.broadcast_to(y * width + x, (intrinsics.shape[0], height, width))
    return ray_of(index, intrinsics[:, None, None], width=width)


def ray_of(pixel: Int[Array, "*p"], intrinsics: Float[Array, "*#p 3 3"], *, width: int) -> Float[Array, "*p 2"]:
    x = (pixel % width + 0.5 - intrinsics[..., 0, 2]) / intrinsics[..., 0, 0]
    y = (pixel // width + 0.5 - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
    return jnp.stack([x, y], axis=-1).astype(intrinsics.dtype)


def visible_faces(corners: Float[Array, "b f 3 3"], *, near: float, cull_backfaces: bool) -> Bool[Array, "b f"]:
    """Faces with something beyond `near` and, if asked for, with their front (counter-clockwise) to the camera."""
    visible = jnp.any(corners[..., 2] > near, axis=-1)
    if cull_backfaces:
        cross = jnp.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
        visible &= jnp.sum(cross * corners[..., 0, :], axis=-1) < 0
    return visible


class FaceBoxes(NamedTuple):
    """Bounding boxes of the faces' projections, pixels; everything where a face reaches the camera's plane."""

    low: Float[Array, "b f 2"]
    high: Float[Array, "b f 2"]


def face_boxes(corners: Float[Array, "b f 3 3"], intrinsics: Float[Array, "b 3 3"], *, near: float) -> FaceBoxes:
    z = corners[..., 2]
    crosses = jnp.any(z <= near, axis=-1)[..., None]  # its projection is unbounded: test every pixel
    focal = jnp.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=-1)[:, None, None]
    screen = corners[..., :2] / jnp.where(z > near, z, 1.0)[..., None] * focal + intrinsics[:, None, None, :2, 2]
    margin = 1e-3  # absorbs rounding
    low, high = jnp.min(screen, axis=-2) - margin, jnp.max(screen, axis=-2) + margin
    return FaceBoxes(jnp.where(crosses, -jnp.inf, low), jnp.where(crosses, jnp.inf, high))
