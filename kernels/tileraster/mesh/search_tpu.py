"""The nearest face of every pixel by a Pallas kernel for TPU: tiles with lists of faces, nearest vertex first.

A tile of 32 x 32 pixels is one vector register, as in `pallas.tpu_forward`. A list ends early when every pixel has a
hit that is nearer than all vertices of the faces to come. The arithmetic is that of `mesh.intersection.intersect`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from tileraster.mesh.intersection import face_boxes, pixel_rays, visible_faces
from tileraster.mesh.search_xla import NearestFaces
from tileraster.pallas.entry_lists import gather_entries
from tileraster.pallas.tpu_forward import CHUNK, LANES, ROW, ROWS, SUBLANES, TILE, read_entry
from tileraster.tiling.binning import ScreenBoxes, TileGrid, bin_primitives, default_capacity, join_tiles
from tileraster.tiling.chunks import cut_into_chunks

_MOST_FACES = 1 << 24  # float32 holds their indices exactly


class _FaceRow(NamedTuple):
    """The numbers of one entry, in the order in which they lie in memory."""

    corners: list[Any]  # nine: x, y, z of each
    index: Any  # of the face, plus one: 0 is no face
    nearest: Any  # z of the vertices


class _Nearest(NamedTuple):
    depth: Float[Array, "8 128"]
    face: Float[Array, "8 128"]


def nearest_faces(
    corners: Float[Array, "b f 3 3"],
    intrinsics: Float[Array, "b 3 3"],
    *,
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
    max_intersections: int | None,
    unroll: int,
    interpret: Any = False,
) -> NearestFaces:
    """As `search_xla.nearest_faces`, but `max_intersections` and the overflow count (tile, face) entries."""
    batch, count = corners.shape[:2]
    if count >= _MOST_FACES:
        raise ValueError(f"faces: got {count}, 'pallas_tpu' takes fewer than {_MOST_FACES}; use implementation='xla'")
    grid = TileGrid(width=width, height=height, tile=TILE)
    nearest = jnp.min(corners[..., 2], axis=-1)
    boxes = ScreenBoxes(
        *face_boxes(corners, intrinsics, near=near),
        depth=nearest,
        visible=visible_faces(corners, near=near, cull_backfaces=cull_backfaces),
    )
    bins = bin_primitives(boxes, grid, capacity=max_intersections or default_capacity(count, grid))
    segments = cut_into_chunks(bins, size=CHUNK)
    index = jnp.broadcast_to(jnp.arange(1, count + 1, dtype=corners.dtype), (batch, count))
    table = jnp.concatenate([corners.reshape(batch, count, 9), index[..., None], nearest[..., None]], axis=-1)
    table = jnp.pad(table, ((0, 0), (0, 0), (0, ROW - table.shape[-1]))).reshape(-1, ROW)
    rows = gather_entries(table, bins, segments).reshape(-1, ROWS, LANES)
    faces = _search(
        segments.first,
        segments.chunks,
        rows,
        _tile_rays(intrinsics, grid),
        near=near,
        unroll=unroll,
        interpret=interpret,
    )
    image = join_tiles(faces.reshape(-1, 1, TILE * TILE), grid, batch)[..., 0]
    return NearestFaces(image.astype(jnp.int32) - 1, bins.overflow)


def _tile_rays(intrinsics: Float[Array, "b 3 3"], grid: TileGrid) -> Float[Array, "t 2 8 128"]:
    rays = pixel_rays(intrinsics, width=grid.columns * TILE, height=grid.rows * TILE)
    split = rays.reshape(-1, grid.rows, TILE, grid.columns, TILE, 2).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(-1, 2, SUBLANES, LANES)


def _search(
    first: Int[Array, "t"],
    chunks: Int[Array, "t"],
    rows: Float[Array, "k 4 128"],
    rays: Float[Array, "t 2 8 128"],
    *,
    near: float,
    unroll: int,
    interpret: Any,
) -> Float[Array, "t 8 128"]:
    """Face index plus one of every pixel, 0 where there is none."""
    return pl.pallas_call(
        functools.partial(_kernel, near=near, unroll=unroll),
        out_shape=jax.ShapeDtypeStruct((first.shape[0], SUBLANES, LANES), jnp.float32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(first.shape[0],),
            in_specs=[
                pl.BlockSpec(memory_space=pl.ANY),
                pl.BlockSpec((None, 2, SUBLANES, LANES), lambda t, *_: (t, 0, 0, 0)),
            ],
            out_specs=pl.BlockSpec((None, SUBLANES, LANES), lambda t, *_: (t, 0, 0)),
            scratch_shapes=[pltpu.SMEM((2, ROWS, LANES), jnp.float32), pltpu.SemaphoreType.DMA((2,))],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), disable_bounds_checks=True),
        interpret=interpret,
        name="nearest_faces",
    )(first, chunks, rows, rays)


def _kernel(
    first_ref: Any,
    chunks_ref: Any,
    rows_hbm: Any,
    rays_ref: Any,
    faces_ref: Any,
    rows: Any,
    arrived: Any,
    *,
    near: float,
    unroll: int,
) -> None:
    tile = pl.program_id(0)
    first, chunks = first_ref[tile], chunks_ref[tile]
    ray_x, ray_y = rays_ref[0], rays_ref[1]

    def copy(chunk: Array) -> Any:
        slot = jax.lax.rem(chunk, 2)
        return pltpu.make_async_copy(rows_hbm.at[first + chunk], rows.at[slot], arrived.at[slot])

    def read_chunk(state: tuple) -> tuple:
        chunk, _, best = state
        slot = jax.lax.rem(chunk, 2)
        pl.when(chunk + 1 < chunks)(lambda: copy(chunk + 1).start())
        copy(chunk).wait()

        def read_row(j: Array, best: _Nearest) -> _Nearest:
            for entry in range(unroll):
                best = _nearer(_as_face(read_entry(rows, slot, j, entry, unroll=unroll)), ray_x, ray_y, best, near=near)
            return best

        best = jax.lax.fori_loop(0, CHUNK // unroll, read_row, best)
        last = _as_face(read_entry(rows, slot, jnp.int32(0), CHUNK - 1, unroll=CHUNK))
        # The rounding of a depth is far below the margin.
        return chunk + 1, jnp.max(best.depth) * (1.0 - 1e-5) >= last.nearest, best

    pl.when(chunks > 0)(lambda: copy(jnp.int32(0)).start())
    infinity = jnp.full((SUBLANES, LANES), jnp.inf, jnp.float32)
    start = (jnp.int32(0), jnp.bool_(True), _Nearest(infinity, jnp.zeros((SUBLANES, LANES), jnp.float32)))
    chunk, _, best = jax.lax.while_loop(lambda state: (state[0] < chunks) & state[1], read_chunk, start)
    # After an early stop the next chunk is still on its way.
    pl.when(chunk < chunks)(lambda: copy(chunk).wait())
    faces_ref[...] = best.face


def _as_face(numbers: list[Array]) -> _FaceRow:
    return _FaceRow(numbers[:9], numbers[9], numbers[10])


def _nearer(face: _FaceRow, ray_x: Array, ray_y: Array, best: _Nearest, *, near: float) -> _Nearest:
    """The nearer of a face's hit and the best so far; of equal depths the lower index."""
    z = face.corners[2::3]
    x = [face.corners[3 * k] - ray_x * z[k] for k in range(3)]
    y = [face.corners[3 * k + 1] - ray_y * z[k] for k in range(3)]
    edge = [x[j] * y[k] - y[j] * x[k] for j, k in ((1, 2), (2, 0), (0, 1))]
    total = edge[0] + edge[1] + edge[2]
    lowest, highest = (pick(pick(edge[0], edge[1]), edge[2]) for pick in (jnp.minimum, jnp.maximum))
    size = [jnp.maximum(jnp.maximum(jnp.abs(v[0]), jnp.abs(v[1])), jnp.abs(v[2])) for v in (x, y)]
    hit = ((lowest >= 0) | (highest <= 0)) & (jnp.abs(total) > 4 * jnp.finfo(jnp.float32).eps * (size[0] * size[1]))
    depth = (edge[0] * z[0] + edge[1] * z[1] + edge[2] * z[2]) / jnp.where(hit, total, 1.0)
    better = (depth < best.depth) | ((depth == best.depth) & (face.index < best.face))
    better &= hit & (depth > near)
    return _Nearest(jnp.where(better, depth, best.depth), jnp.where(better, face.index, best.face))
