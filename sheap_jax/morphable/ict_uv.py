"""One uv chart in [0, 1] for the ICT model, whose source spreads its parts over four texture tiles.

Both subsets share the chart, so that a uv map means the same on the full and on the lite mesh. The face gets half of
the area; the eyeballs, whose source uv overlap, are laid out anew as seen from the front.
"""

import itertools

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.mesh_files import TextureChart
from sheap_jax.morphable.ict_source import IRIS_START, PART_NAMES, IctSource, vertex_parts

# Lower left corner and size of each cell.
_CELLS = {
    "face": (0.0, 0.28, 0.70, 0.72),
    "head": (0.70, 0.28, 0.30, 0.72),
    "gums_tongue": (0.0, 0.0, 0.28, 0.28),
    "teeth": (0.28, 0.0, 0.28, 0.28),
    "eyeball_left": (0.56, 0.14, 0.14, 0.14),
    "eyeball_right": (0.70, 0.14, 0.14, 0.14),
    "iris_left": (0.56, 0.0, 0.14, 0.14),
    "iris_right": (0.70, 0.0, 0.14, 0.14),
}
_TILES = ("face", "head", "gums_tongue", "teeth")  # cell of each tile of the source; sockets lie on the head's
_INSET = 0.01  # share of a cell left free at its border: neighbours must not bleed into each other


def uv_chart(source: IctSource) -> TextureChart:
    """The chart of the whole mesh."""
    parts = vertex_parts(len(source.vertices))
    face_parts = parts[source.faces].max(axis=1)
    tiles = np.clip(np.floor(source.uv[:, 0]), 0, len(_TILES) - 1).astype(int)
    placed = np.zeros((len(source.uv), 2))
    for tile, cell in enumerate(_TILES):
        placed[tiles == tile] = _place(source.uv[tiles == tile] - np.array([tile, 0]), cell)
    charts, corners, offset = [placed], source.uv_faces.copy(), len(placed)
    for name in IRIS_START:  # the eyeballs: one uv point per vertex
        of_eye = face_parts == PART_NAMES.index(name)
        vertices = np.flatnonzero(parts == PART_NAMES.index(name))
        charts.append(_eyeball(source.vertices[vertices], name, IRIS_START[name] - vertices[0]))
        corners[of_eye] = source.faces[of_eye] - vertices[0] + offset
        offset += len(vertices)
    return _compact(np.concatenate(charts), corners)


def uv_subset(
    chart: TextureChart,
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    subset_faces: Int[np.ndarray, "g 3"],
) -> TextureChart:
    """The chart on other triangles over the same vertices, such as those of a decimated mesh.

    A vertex on a seam has several uv points: each triangle takes the corners that lie closest together in one cell.
    Where a triangle crosses a seam, the corners without a point in its cell get one by extrapolation.
    """
    cells = _cell_of(chart.uv)
    owner = np.zeros(len(chart.uv), np.int64)
    owner[chart.faces] = faces  # vertex of each uv point
    candidates: dict[int, list[int]] = {}
    for point, vertex in enumerate(owner.tolist()):
        candidates.setdefault(vertex, []).append(point)
    uv, corners = list(chart.uv), []
    for face in subset_faces.tolist():
        choices = [candidates[vertex] for vertex in face]
        cell = _commonest([{cells[point] for point in points} for points in choices])
        inside = [[point for point in points if cells[point] == cell] for points in choices]
        for vertex, points in zip(face, inside, strict=True):
            if not points:
                points.append(len(uv))
                uv.append(_extrapolate(vertices[vertex], vertices[owner[cells == cell]], chart.uv[cells == cell]))
        corners.append(_closest(uv, inside))
    return _compact(np.asarray(uv), np.asarray(corners))


def _cell_of(uv: Float[np.ndarray, "u 2"]) -> Int[np.ndarray, "u"]:
    """Index of the cell in which each uv point lies."""
    cells = np.array(list(_CELLS.values()))
    inside = (uv[:, None] >= cells[:, :2]) & (uv[:, None] <= cells[:, :2] + cells[:, 2:])
    return inside.all(axis=-1).argmax(axis=1)


def _commonest(groups: list[set[int]]) -> int:
    """The member of most groups."""
    return max(sorted(set.union(*groups)), key=lambda member: sum(member in group for group in groups))


def _extrapolate(
    place: Float[np.ndarray, "3"], vertices: Float[np.ndarray, "n 3"], uv: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "2"]:
    """The uv of a place by the affine map of the 12 nearest vertices, which all lie on its cell."""
    nearest = np.argsort(((vertices - place) ** 2).sum(axis=1))[:12]
    center = vertices[nearest].mean(axis=0)
    # Truncated: the direction normal to the nearly flat patch would be fitted to noise.
    slope = np.linalg.pinv(vertices[nearest] - center, rcond=0.2) @ (uv[nearest] - uv[nearest].mean(axis=0))
    return np.clip(uv[nearest].mean(axis=0) + (place - center) @ slope, 0.0, 1.0)


def _closest(uv: list[Float[np.ndarray, "2"]], candidates: list[list[int]]) -> tuple[int, ...]:
    """The choice of one uv point per corner with the smallest extent."""
    choices = list(itertools.product(*candidates))
    if len(choices) == 1:
        return choices[0]
    return min(choices, key=lambda choice: np.ptp([uv[point] for point in choice], axis=0).sum())


def _place(uv: Float[np.ndarray, "n 2"], cell: str) -> Float[np.ndarray, "n 2"]:
    """Move points of the unit square into a cell."""
    x, y, width, height = _CELLS[cell]
    return (x, y) + (_INSET + (1 - 2 * _INSET) * uv) * (width, height)


def _eyeball(vertices: Float[np.ndarray, "n 3"], name: str, iris_start: int) -> Float[np.ndarray, "n 2"]:
    """Azimuthal equidistant map of an eyeball about its front, the iris behind the cornea in a cell of its own."""
    direction = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    angle = np.arctan2(np.linalg.norm(direction[:, :2], axis=1), direction[:, 2]) / np.pi
    flat = direction[:, :2] / np.maximum(np.linalg.norm(direction[:, :2], axis=1, keepdims=True), 1e-9)
    uv = 0.5 + 0.5 * angle[:, None] * flat
    return np.concatenate([_place(uv[:iris_start], name), _place(uv[iris_start:], name.replace("eyeball", "iris"))])


def _compact(uv: Float[np.ndarray, "u 2"], faces: Int[np.ndarray, "f 3"]) -> TextureChart:
    """Drop uv points that no face uses."""
    used, inverse = np.unique(faces, return_inverse=True)
    return TextureChart(uv[used].astype(np.float32), inverse.reshape(faces.shape).astype(np.int32))
