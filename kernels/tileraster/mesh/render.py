"""Triangles: which face each pixel sees first, and where it hits.

The search for the nearest face (`search_xla`, `search_tpu`) is discrete and runs without gradients. The winning
face of every pixel is then intersected once more, differentiably, which costs one gather of three vertices per pixel.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tileraster.camera import to_camera
from tileraster.mesh import search_xla
from tileraster.mesh.intersection import intersect, pixel_rays, visible_faces
from tileraster.nan_inputs import nan_where_input_is
from tileraster.pallas.tuning import tpu_tuning
from tileraster.types import MeshImage

FACES_PER_STEP = 64  # of the reference


@functools.partial(
    jax.jit,
    static_argnames=("width", "height", "near", "cull_backfaces", "implementation", "max_intersections"),
)
def render_mesh(
    vertices: Float[Array, "b v 3"],
    faces: Int[Array, "f 3"],
    viewmats: Float[Array, "b 4 4"],
    intrinsics: Float[Array, "b 3 3"],
    *,
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
    implementation: str,
    max_intersections: int | None,
) -> MeshImage:
    """`rasterize_mesh` for a flat batch."""
    batch = vertices.shape[0]
    corners = to_camera(vertices, viewmats)[:, faces]
    options = {"width": width, "height": height, "near": near, "cull_backfaces": cull_backfaces}
    fixed = jax.lax.stop_gradient((corners, intrinsics))
    overflow = jnp.zeros((batch,), jnp.int32)
    if corners.size == 0:
        index = jnp.full((batch, height, width), -1, jnp.int32)
    elif implementation == "reference":
        index = nearest_faces_reference(*fixed, **options)
    else:
        search = _search_of(implementation)
        index, overflow = search(*fixed, **options, max_intersections=max_intersections)
    image = render_faces(corners, intrinsics, index, overflow)
    nan_or_zero = nan_where_input_is(corners, viewmats, intrinsics)[:, None, None]
    return image._replace(
        depth=image.depth + nan_or_zero,
        normal=image.normal + nan_or_zero[..., None],
        barycentric=image.barycentric + nan_or_zero[..., None],
    )


def _search_of(implementation: str) -> Callable[..., search_xla.NearestFaces]:
    if not implementation.startswith("pallas_tpu"):
        return search_xla.nearest_faces
    # Pallas is imported where it is used: it takes a second.
    from tileraster.mesh import search_tpu

    interpret = implementation.endswith("_interpret")
    return functools.partial(search_tpu.nearest_faces, unroll=tpu_tuning(implementation).mesh, interpret=interpret)


def render_faces(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    face_index: Int[Array, "b h w"],
    overflow: Int[Array, "b"],
) -> MeshImage:
    """The differentiable part: intersect every pixel with the face that it sees (-1: none)."""
    batch, height, width = face_index.shape
    mask = face_index >= 0
    if corners.shape[1] == 0:
        corners = jnp.zeros((batch, 1, 3, 3), corners.dtype)
    seen = jnp.maximum(face_index, 0).reshape(batch, -1)
    own = jnp.take_along_axis(corners.reshape(batch, -1, 9), seen[..., None], axis=1)
    # Pixels without a hit get a harmless triangle, so that no gradient becomes 0 * infinity.
    harmless = jnp.array([0, 0, 1, 1, 0, 1, 0, 1, 1], corners.dtype)
    own = jnp.where(mask.reshape(batch, -1, 1), own, harmless).reshape(batch, height, width, 3, 3)
    ray = pixel_rays(intrinsics, width=width, height=height)
    hit = intersect(own, ray)
    normal = camera_facing_normals(own)
    visible = mask[..., None]
    return MeshImage(
        depth=jnp.where(mask, hit.depth, 0.0),
        normal=jnp.where(visible, normal, 0.0),
        face_index=face_index,
        barycentric=jnp.where(visible, hit.barycentric, 0.0),
        mask=mask,
        overflow=overflow,
    )


def camera_facing_normals(corners: Float[Array, "*p 3 3"]) -> Float[Array, "*p 3"]:
    """Unit normals that point to the side of the camera."""
    cross = jnp.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    # Scale first: the squares of small faces (micrometres) would underflow in float32.
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(cross)), axis=-1, keepdims=True)
    cross = cross / jnp.where(scale > 0, scale, 1.0)
    square = jnp.sum(cross * cross, axis=-1, keepdims=True)
    normal = cross / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    away = jnp.sum(normal * corners[..., 0, :], axis=-1, keepdims=True) > 0
    return jnp.where(away, -normal, normal)


def nearest_faces_reference(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    *,
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
) -> Int[Array, "b h w"]:
    """Every face at every pixel. Equal depths go to the lower face index."""
    batch, count = corners.shape[:2]
    ray = pixel_rays(intrinsics, width=width, height=height)
    padded = -count % FACES_PER_STEP
    visible = visible_faces(corners, near=near, cull_backfaces=cull_backfaces)
    visible = jnp.pad(visible, ((0, 0), (0, padded)))
    corners = jnp.pad(corners, ((0, 0), (0, padded), (0, 0), (0, 0)))
    steps = corners.shape[1] // FACES_PER_STEP

    def step(best: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        best_depth, best_face = best
        start = k * FACES_PER_STEP
        faces = jax.lax.dynamic_slice_in_dim(corners, start, FACES_PER_STEP, axis=1)
        shown = jax.lax.dynamic_slice_in_dim(visible, start, FACES_PER_STEP, axis=1)
        hit = intersect(faces[:, None, None], ray[..., None, :])
        depth = jnp.where(hit.inside & shown[:, None, None] & (hit.depth > near), hit.depth, jnp.inf)
        first = jnp.argmin(depth, axis=-1)
        nearest = jnp.take_along_axis(depth, first[..., None], axis=-1)[..., 0]
        closer = nearest < best_depth
        return (jnp.where(closer, nearest, best_depth), jnp.where(closer, start + first, best_face)), None

    shape = (batch, height, width)
    start = (jnp.full(shape, jnp.inf, corners.dtype), jnp.full(shape, -1, jnp.int32))
    return jax.lax.scan(step, start, jnp.arange(steps, dtype=jnp.int32))[0][1]
