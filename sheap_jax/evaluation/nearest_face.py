"""The closest triangle of a mesh to each point, by trying all of them: what accelerators do faster than any tree."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

POINTS_AT_A_TIME = 512


def nearest_face(
    points: Float[np.ndarray, "n 3"],
    origins: Float[np.ndarray, "f 3"],
    frames: Float[np.ndarray, "f 3 3"],
    shapes: Float[np.ndarray, "3 f"],
) -> Int[np.ndarray, "n"]:
    """Index of the closest triangle, found in float32.

    Args:
        points: any unit.
        origins: first corner of each triangle.
        frames: rows x, y, z of its frame; it lies in the plane z = 0 with corners (0, 0), (x1, 0), (x2, y2).
        shapes: x1, x2, y2.
    """
    # float32 around the mesh's centre and in units of its size: distances are then right to about 1e-7 of it.
    center, size = origins.mean(axis=0), max(float(np.ptp(origins, axis=0).max()), np.finfo(np.float32).tiny)
    blocks = -(-len(points) // POINTS_AT_A_TIME)
    padded = np.resize((points - center) / size, (blocks, POINTS_AT_A_TIME, 3)).astype(np.float32)
    single = ((origins - center) / size, frames, shapes / size)
    found = _nearest_faces(jnp.asarray(padded), *(jnp.asarray(array, jnp.float32) for array in single))
    return np.asarray(found).reshape(-1)[: len(points)]


@jax.jit
def _nearest_faces(
    points: Float[Array, "k n 3"],
    origins: Float[Array, "f 3"],
    frames: Float[Array, "f 3 3"],
    shapes: Float[Array, "3 f"],
) -> Int[Array, "k n"]:
    def of_block(points: Float[Array, "n 3"]) -> Int[Array, "n"]:
        offset = [points[:, None, k] - origins[None, :, k] for k in range(3)]
        # Written out: a matrix product would put all pairs into memory before the minimum is taken.
        x, y, z = (sum(offset[k] * frames[None, :, row, k] for k in range(3)) for row in range(3))
        closest_x, closest_y = closest_in_plane(x, y, *shapes, library=jnp)
        return jnp.argmin((x - closest_x) ** 2 + (y - closest_y) ** 2 + z**2, axis=1)

    return jax.lax.map(of_block, points)


def closest_in_plane(px, py, x1, x2, y2, *, library=np):
    """Closest points (x, y) of the triangles (0, 0), (x1, 0), (x2, y2) to points (px, py) of their plane.

    `library` is the one whose arrays these are, NumPy or jax.numpy.
    """
    # Inside, when strictly left of all three edges (the corners run counter-clockwise).
    inside = (py > 0) & (x2 * py < y2 * px) & ((x2 - x1) * py - y2 * (px - x1) > 0)
    best_x, best_y = library.clip(px, 0.0, x1), library.zeros_like(py)  # the first edge
    best = (px - best_x) ** 2 + py**2
    for start_x, edge_x in ((0.0, x2), (x1, x2 - x1)):  # the other two edges end at (x2, y2)
        square = edge_x**2 + y2**2
        along = ((px - start_x) * edge_x + py * y2) / library.where(square > 0, square, 1.0)
        along = library.clip(along, 0.0, 1.0)
        x, y = start_x + along * edge_x, along * y2
        distance = (px - x) ** 2 + (py - y) ** 2
        closer = distance < best
        best = library.where(closer, distance, best)
        best_x, best_y = library.where(closer, x, best_x), library.where(closer, y, best_y)
    return library.where(inside, px, best_x), library.where(inside, py, best_y)
