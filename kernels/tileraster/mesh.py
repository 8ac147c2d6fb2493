"""Triangles: which face each pixel sees first, and where it hits.

The search for the nearest face is discrete and runs without gradients. The winning face of every pixel is then
intersected once more, differentiably, which costs one gather of three vertices per pixel.

Intersection as in Woop, Benthin and Wald, "Watertight Ray/Triangle Intersection" (JCGT 2013): vertices are sheared so
that the pixel's ray becomes the z axis; the three edge functions are then 2D cross products of small, accurate
numbers, and neighbouring faces compute the same number (up to sign and the last bit) for their shared edge, so that no
ray slips between them. It needs no clipping: vertices behind the camera are fine.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tileraster.camera import to_camera
from tileraster.poison import poison_of
from tileraster.types import MeshImage

# Candidates (pixel of a face's bounding box) tested per iteration: large enough to amortise the loop, small for cache.
CANDIDATES_PER_STEP = 1 << 14
FACES_PER_STEP = 64  # of the reference
# int32 enumerates the candidates of the whole batch; faces beyond this many are dropped and counted.
MOST_CANDIDATES = 1 << 30


class Hit(NamedTuple):
    """Intersection of pixel rays with one face each."""

    depth: Float[Array, "*p"]
    barycentric: Float[Array, "*p 3"]
    inside: Bool[Array, "*p"]


def intersect(corners: Float[Array, "*p 3 3"], ray: Float[Array, "*p 2"]) -> Hit:
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
        index, overflow = nearest_faces_xla(*fixed, **options, max_intersections=max_intersections)
    image = render_faces(corners, intrinsics, index, overflow)
    poison = poison_of(corners, viewmats, intrinsics)[:, None, None]
    return image._replace(
        depth=image.depth + poison,
        normal=image.normal + poison[..., None],
        barycentric=image.barycentric + poison[..., None],
    )


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
    normal = face_normals(own)
    visible = mask[..., None]
    return MeshImage(
        depth=jnp.where(mask, hit.depth, 0.0),
        normal=jnp.where(visible, normal, 0.0),
        face_index=face_index,
        barycentric=jnp.where(visible, hit.barycentric, 0.0),
        mask=mask,
        overflow=overflow,
    )


def face_normals(corners: Float[Array, "*p 3 3"]) -> Float[Array, "*p 3"]:
    """Unit normals that point to the side of the camera."""
    cross = jnp.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    # Scale first: the squares of small faces (micrometres) would underflow in float32.
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(cross)), axis=-1, keepdims=True)
    cross = cross / jnp.where(scale > 0, scale, 1.0)
    square = jnp.sum(cross * cross, axis=-1, keepdims=True)
    normal = cross / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    away = jnp.sum(normal * corners[..., 0, :], axis=-1, keepdims=True) > 0
    return jnp.where(away, -normal, normal)


def pixel_rays(intrinsics: Float[Array, "b 3 3"], *, width: int, height: int) -> Float[Array, "b h w 2"]:
    """Directions (x, y, 1) of the rays through the pixel centres."""
    y, x = jnp.mgrid[:height, :width]
    index = jnp.broadcast_to(y * width + x, (intrinsics.shape[0], height, width))
    return _ray_of(index, intrinsics[:, None, None], width=width)


def _ray_of(pixel: Int[Array, "*p"], intrinsics: Float[Array, "*p 3 3"], *, width: int) -> Float[Array, "*p 2"]:
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


class _Boxes(NamedTuple):
    """The faces that have candidates: pixels of the bounding box of a face's projection, enumerated face by face."""

    face: Int[Array, "n"]  # row of the flattened faces; the lists end with padding that starts at `total`
    start: Int[Array, "n"]  # first candidate
    left: Int[Array, "n"]
    top: Int[Array, "n"]
    width: Int[Array, "n"]
    total: Int[Array, ""]
    overflow: Int[Array, "b"]


def _boxes(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    visible: Bool[Array, "b f"],
    *,
    width: int,
    height: int,
    near: float,
    max_candidates: int,
) -> _Boxes:
    z = corners[..., 2]
    crosses = jnp.any(z <= near, axis=-1)  # its projection is unbounded: test every pixel
    focal = jnp.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=-1)[:, None, None]
    screen = corners[..., :2] / jnp.where(z > near, z, 1.0)[..., None] * focal + intrinsics[:, None, None, :2, 2]
    size = jnp.array([width, height], screen.dtype)
    # A pixel (centre at +0.5) is a candidate if its centre lies in the box; the margin absorbs rounding.
    margin = 1e-3
    low = jnp.where(crosses[..., None], 0.0, jnp.ceil(jnp.min(screen, axis=-2) - 0.5 - margin))
    high = jnp.where(crosses[..., None], size, jnp.floor(jnp.max(screen, axis=-2) - 0.5 + margin) + 1)
    low = jnp.clip(low, 0, size).astype(jnp.int32)
    high = jnp.clip(high, 0, size).astype(jnp.int32)
    extent = jnp.where(visible[..., None], jnp.maximum(high - low, 0), 0)
    count = extent[..., 0] * extent[..., 1]
    # float32 cannot overflow here and its rounding is harmless: faces beyond the limit are dropped and counted.
    running = jnp.cumsum(count.astype(jnp.float32), axis=-1)
    kept = jnp.where(running <= max_candidates, count, 0)
    overflow = jnp.sum(count - kept, axis=-1)
    kept = kept.reshape(-1)
    end = jnp.cumsum(kept)
    size = kept.size + CANDIDATES_PER_STEP
    slot = jnp.where(kept > 0, jnp.cumsum(kept > 0) - 1, size)

    def compact(values: Array, padding: Array | int) -> Array:
        return jnp.full((size,), padding, jnp.int32).at[slot].set(values.reshape(-1), mode="drop")

    return _Boxes(
        face=compact(jnp.arange(kept.size, dtype=jnp.int32), 0),
        start=compact(end - kept, end[-1]),
        left=compact(low[..., 0], 0),
        top=compact(low[..., 1], 0),
        width=compact(extent[..., 0], 1),
        total=end[-1],
        overflow=overflow,
    )


def nearest_faces_xla(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    *,
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
    max_intersections: int | None,
) -> tuple[Int[Array, "b h w"], Int[Array, "b"]]:
    """Face index per pixel and overflow: the candidates of all faces in fixed-size steps, scattered into a z-buffer.

    The work is proportional to the pixels in the faces' bounding boxes, the memory to faces and pixels. Minima do
    not depend on the order of the candidates, so the result is reproducible on every device.
    """
    batch, count = corners.shape[:2]
    limit = min(max_intersections or MOST_CANDIDATES, MOST_CANDIDATES // batch)
    visible = visible_faces(corners, near=near, cull_backfaces=cull_backfaces)
    boxes = _boxes(corners, intrinsics, visible, width=width, height=height, near=near, max_candidates=limit)
    table = corners.reshape(batch * count, 9)
    pixels = batch * height * width

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        base, depth_buffer, face_buffer = state
        slot = base + jnp.arange(CANDIDATES_PER_STEP, dtype=jnp.int32)
        box = _owner(boxes.start, base)
        offset = slot - boxes.start[box]
        x = boxes.left[box] + offset % boxes.width[box]
        y = boxes.top[box] + offset // boxes.width[box]
        row = boxes.face[box]
        image = row // count
        pixel = y * width + x
        hit = intersect(table[row].reshape(-1, 3, 3), _ray_of(pixel, intrinsics[image], width=width))
        shown = hit.inside & (hit.depth > near) & (slot < boxes.total)
        target = jnp.where(shown, image * (height * width) + pixel, pixels)
        # The barrier keeps XLA from computing the depth twice with different rounding: it is compared for equality.
        depth = jax.lax.optimization_barrier(hit.depth)
        nearer = depth_buffer.at[target].min(depth, mode="drop")
        face_buffer = jnp.where(nearer < depth_buffer, batch * count, face_buffer)
        winner = shown & (depth == nearer.at[target].get(mode="fill", fill_value=0.0))
        face_buffer = face_buffer.at[jnp.where(winner, target, pixels)].min(row, mode="drop")
        return base + CANDIDATES_PER_STEP, nearer, face_buffer

    start = (
        jnp.int32(0),
        jnp.full((pixels,), jnp.inf, corners.dtype),
        jnp.full((pixels,), batch * count, jnp.int32),
    )
    face = jax.lax.while_loop(lambda state: state[0] < boxes.total, step, start)[2]
    face = face.reshape(batch, height, width)
    first = count * jnp.arange(batch, dtype=jnp.int32)[:, None, None]
    return jnp.where(face < batch * count, face - first, -1), boxes.overflow


def _owner(start: Int[Array, "n"], base: Int[Array, ""]) -> Int[Array, "m"]:
    """Which box each of the next CANDIDATES_PER_STEP candidates belongs to: the last one that starts at or before it.

    Boxes mark the candidate where they start, a running maximum fills the gaps.
    """
    first = jnp.searchsorted(start, base, side="right").astype(jnp.int32) - 1
    window = jax.lax.dynamic_slice_in_dim(start, first, CANDIDATES_PER_STEP) - base
    marks = jnp.zeros((CANDIDATES_PER_STEP,), jnp.int32)
    marks = marks.at[jnp.maximum(window, 0)].max(jnp.arange(CANDIDATES_PER_STEP, dtype=jnp.int32), mode="drop")
    return first + jax.lax.cummax(marks)
