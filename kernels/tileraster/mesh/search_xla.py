"""The nearest face of every pixel in plain XLA: bounding boxes and a z-buffer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tileraster.mesh.intersection import face_boxes, intersect, ray_of, visible_faces
from tileraster.validation import call_platform

# Candidates (pixel of a face's bounding box) tested per iteration. On a CPU large enough to amortise the loop and small
# for its cache; elsewhere large, as an iteration costs the same time however few it tests.
CANDIDATES_PER_STEP, CANDIDATES_ELSEWHERE = 1 << 14, 1 << 20
# int32 enumerates the candidates of the whole batch; faces beyond this many are dropped and counted.
MOST_CANDIDATES = 1 << 30


class NearestFaces(NamedTuple):
    face: Int[Array, "b h w"]  # -1 where there is none
    overflow: Int[Array, "b"]


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
    step: int,
) -> _Boxes:
    boxes = face_boxes(corners, intrinsics, near=near)
    size = jnp.array([width, height], corners.dtype)
    # A pixel (centre at +0.5) is a candidate if its centre lies in the box.
    low = jnp.clip(jnp.ceil(boxes.low - 0.5), 0, size).astype(jnp.int32)
    high = jnp.clip(jnp.floor(boxes.high - 0.5) + 1, 0, size).astype(jnp.int32)
    extent = jnp.where(visible[..., None], jnp.maximum(high - low, 0), 0)
    count = extent[..., 0] * extent[..., 1]
    # float32 cannot overflow here and its rounding is harmless: faces beyond the limit are dropped and counted.
    running = jnp.cumsum(count.astype(jnp.float32), axis=-1)
    kept = jnp.where(running <= max_candidates, count, 0)
    overflow = jnp.sum(count - kept, axis=-1)
    kept = kept.reshape(-1)
    end = jnp.cumsum(kept)
    size = kept.size + step
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


def nearest_faces(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    *,
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
    max_intersections: int | None,
) -> NearestFaces:
    """Face index per pixel and overflow: the candidates of all faces in fixed-size steps, scattered into a z-buffer.

    The work is proportional to the pixels in the faces' bounding boxes, the memory to faces and pixels. Minima do
    not depend on the order of the candidates, so the result is reproducible on every device.
    """
    batch, count = corners.shape[:2]
    limit = min(max_intersections or MOST_CANDIDATES, MOST_CANDIDATES // batch)
    visible = visible_faces(corners, near=near, cull_backfaces=cull_backfaces)
    together = CANDIDATES_PER_STEP if call_platform() == "cpu" else CANDIDATES_ELSEWHERE
    options = {"width": width, "height": height, "near": near}
    boxes = _boxes(corners, intrinsics, visible, **options, max_candidates=limit, step=together)
    table = corners.reshape(batch * count, 9)
    pixels = batch * height * width

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        base, depth_buffer, face_buffer = state
        row, x, y, exists = _candidates(boxes, base, together)
        image = row // count
        pixel = y * width + x
        hit = intersect(table[row].reshape(-1, 3, 3), ray_of(pixel, intrinsics[image], width=width))
        shown = hit.inside & (hit.depth > near) & exists
        target = jnp.where(shown, image * (height * width) + pixel, pixels)
        # The barrier keeps XLA from computing the depth twice with different rounding: it is compared for equality.
        depth = jax.lax.optimization_barrier(hit.depth)
        nearer = depth_buffer.at[target].min(depth, mode="drop")
        face_buffer = jnp.where(nearer < depth_buffer, batch * count, face_buffer)
        winner = shown & (depth == nearer.at[target].get(mode="fill", fill_value=0.0))
        face_buffer = face_buffer.at[jnp.where(winner, target, pixels)].min(row, mode="drop")
        return base + together, nearer, face_buffer

    far, no_face = jnp.full((pixels,), jnp.inf, corners.dtype), jnp.full((pixels,), batch * count, jnp.int32)
    start = (jnp.int32(0), far, no_face)
    face = jax.lax.while_loop(lambda state: state[0] < boxes.total, step, start)[2]
    face = face.reshape(batch, height, width)
    first = count * jnp.arange(batch, dtype=jnp.int32)[:, None, None]
    return NearestFaces(jnp.where(face < batch * count, face - first, -1), boxes.overflow)


class _Candidates(NamedTuple):
    row: Int[Array, "m"]  # of the flattened faces
    x: Int[Array, "m"]
    y: Int[Array, "m"]
    exists: Bool[Array, "m"]  # False behind the last one


def _candidates(boxes: _Boxes, base: Int[Array, ""], count: int) -> _Candidates:
    """The `count` candidates from `base` on."""
    slot = base + jnp.arange(count, dtype=jnp.int32)
    box = _owner(boxes.start, base, count)
    offset = slot - boxes.start[box]
    x = boxes.left[box] + offset % boxes.width[box]
    y = boxes.top[box] + offset // boxes.width[box]
    return _Candidates(boxes.face[box], x, y, slot < boxes.total)


def _owner(start: Int[Array, "n"], base: Int[Array, ""], count: int) -> Int[Array, "m"]:
    """Which box each of the next `count` candidates belongs to: the last one that starts at or before it.

    Boxes mark the candidate where they start, a running maximum fills the gaps.
    """
    first = jnp.searchsorted(start, base, side="right").astype(jnp.int32) - 1
    window = jax.lax.dynamic_slice_in_dim(start, first, count) - base
    marks = jnp.zeros((count,), jnp.int32)
    marks = marks.at[jnp.maximum(window, 0)].max(jnp.arange(count, dtype=jnp.int32), mode="drop")
    return first + jax.lax.cummax(marks)
