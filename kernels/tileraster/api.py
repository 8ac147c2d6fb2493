"""The public functions: check the call, choose an implementation, run it on one flat batch axis."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster import mesh, validation
from tileraster.camera import to_camera
from tileraster.types import MeshImage


def rasterize_mesh(
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    viewmats: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    *,
    width: int,
    height: int,
    near: float = 0.01,
    cull_backfaces: bool = False,
    implementation: str | None = None,
    max_intersections: int | None = None,
) -> MeshImage:
    """Nearest triangle at every pixel centre, as a z-buffer would find it.

    `depth`, `normal` and `barycentric` are differentiable with respect to vertices and cameras: the winning face is
    held fixed, its intersection with the pixel's ray is differentiated. Silhouettes carry no gradient. Triangles may
    reach behind the camera; hits with z <= near do not count. Equal depths go to the lower face index.

    Args:
        vertices: world space.
        faces: vertex indices, shared by the batch; counter-clockwise seen from the front.
        viewmats: world to camera (x right, y down, z forward).
        intrinsics: pixels, no skew.
        width, height: image size in pixels; the centre of the top-left pixel is (0.5, 0.5).
        near: smallest z of a hit.
        cull_backfaces: skip faces whose back is towards the camera.
        implementation: "reference" (every face at every pixel), "xla" (bounding boxes and a z-buffer), None: best.
        max_intersections: most (pixel, face) candidates per image, a power of two; whole faces beyond it are dropped
            and their candidates counted in `overflow`. None: no limit, nothing is allocated for it.

    Raises:
        TypeError, ValueError: an argument has the wrong dtype or shape; the message names it.
    """
    batch = validation.check_arrays(
        {"vertices": vertices, "viewmats": viewmats, "intrinsics": intrinsics},
        {"vertices": ("V", 3), "viewmats": (4, 4), "intrinsics": (3, 3)},
    )
    validation.check_faces(faces)
    validation.check_size(width=width, height=height)
    validation.check_capacity(max_intersections)
    chosen = validation.choose_implementation(implementation)

    flat = (math.prod(batch),)
    vertices = jnp.reshape(vertices, flat + vertices.shape[-2:])
    viewmats = jnp.reshape(viewmats, (*flat, 4, 4))
    intrinsics = jnp.reshape(intrinsics, (*flat, 3, 3))
    corners = to_camera(vertices, viewmats)[:, faces]
    options = {"width": width, "height": height, "near": near, "cull_backfaces": cull_backfaces}
    fixed = jax.lax.stop_gradient((corners, intrinsics))
    if corners.size == 0:
        index, overflow = jnp.full((*flat, height, width), -1, jnp.int32), jnp.zeros(flat, jnp.int32)
    elif chosen == "reference":
        index, overflow = mesh.nearest_faces_reference(*fixed, **options), jnp.zeros(flat, jnp.int32)
    else:
        index, overflow = mesh.nearest_faces_xla(*fixed, **options, max_intersections=max_intersections)
    image = mesh.render_faces(corners, intrinsics, index, overflow)
    poison = poison_of(corners, viewmats, intrinsics)[:, None, None]
    image = image._replace(
        depth=image.depth + poison,
        normal=image.normal + poison[..., None],
        barycentric=image.barycentric + poison[..., None],
    )
    return jax.tree.map(lambda value: value.reshape(batch + value.shape[1:]), image)


def poison_of(*arrays: Float[Array, "b *n"]) -> Float[Array, "b"]:
    """NaN for images with a NaN in any of their inputs, 0 for the others.

    Comparisons with NaN are false, so that a NaN would silently cull its primitive: added to the outputs, this makes
    it visible.
    """
    bad = [jnp.any(jnp.isnan(array), axis=tuple(range(1, array.ndim))) for array in arrays]
    return jnp.where(jnp.stack(bad).any(axis=0), jnp.nan, 0.0).astype(arrays[0].dtype)
