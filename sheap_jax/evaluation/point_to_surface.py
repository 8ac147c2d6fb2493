"""Exact unsigned distance from points to a triangle mesh.

On an accelerator every triangle is tried for every point (`nearest_face`). On the CPU a search tree, SciPy's k-d tree,
says which to try; the rest of this page is about that.

Every triangle is turned once into a frame of its own, with one corner at the origin and the triangle in the plane
z = 0: there the closest point is a matter of two dimensions. Which triangles to look at comes from a k-d tree of
handles, points such that every point of a triangle is within a radius r of one of its handles. A triangle all of whose
handles are farther than (best distance so far + r) cannot be closer. Small triangles have one handle, their centre;
large ones (necks, eye sockets) get several, because a single long triangle would otherwise blow up r for all.

Neighbours among the points ask nearly the same question. They are put into cells, and the tree is asked once for each
cell: with centre c, and all its points within h of c, no triangle farther from c than (distance of c + 2 h) can be the
closest one of any of them. For a point p of the cell, a triangle at distance d from c is at least d - |p - c| away.

What is left, some twenty triangles for each point, is measured in float32, columns side by side, which takes a third of
the time; those within its error of the least are measured again in float64.
"""

from itertools import chain
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.evaluation.nearest_face import closest_in_plane, nearest_face

FIRST_CANDIDATES = 4  # nearest handles that give the first bound
HANDLE_RADIUS = 1.5  # of the median triangle: what is larger is cut for the search
CELL_SIZE = 1.0  # side of a cell of points, in radii of the median handle
BLOCK = 16384  # distances calculated at a time: what fits in the processor's cache
POINTS_AT_A_TIME = 1024  # with some twenty candidates each, likewise
ROUGH_ERROR = 1e-5  # of a distance in float32, in units of the largest coordinate: a hundred roundings
MAX_HANDLES = 4  # per triangle on average; beyond that r may grow instead, which only costs time


class ClosestPoints(NamedTuple):
    """For each query point: the closest point of the mesh, its distance and its triangle."""

    points: Float[np.ndarray, "n 3"]
    distances: Float[np.ndarray, "n"]
    faces: Int[np.ndarray, "n"]


class _Handles(NamedTuple):
    points: Float[np.ndarray, "h 3"]
    faces: Int[np.ndarray, "h"]
    radii: Float[np.ndarray, "h"]  # every point of the handle's part of its triangle is at most this far


class _Cells(NamedTuple):
    """Points grouped by place. `offsets` and `cell` belong to the points in `order`, cell after cell."""

    order: Int[np.ndarray, "n"]
    cell: Int[np.ndarray, "n"]
    offsets: Float[np.ndarray, "n"]  # distance to the cell's centre
    centers: Float[np.ndarray, "c 3"]
    radii: Float[np.ndarray, "c"]  # the largest offset


class _Candidates(NamedTuple):
    """Triangles of each cell: those from starts[k] to starts[k + 1]."""

    starts: Int[np.ndarray, "c+1"]
    faces: Int[np.ndarray, "e"]
    distances: Float[np.ndarray, "e"]  # from the cell's centre
    closest: Int[np.ndarray, "c"]  # the entry of the least distance


class Surface:
    """A triangle mesh prepared for closest-point queries. Degenerate triangles count as segments or points."""

    def __init__(self, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]):
        from scipy.spatial import KDTree

        corners = np.asarray(vertices, np.float64)[np.asarray(faces)]
        if not len(corners) or not np.isfinite(corners).all():
            raise ValueError(
                f"a surface needs at least one triangle and finite vertices; {len(corners)} triangles given"
            )
        handles, self._handle_faces, self._handle_radii = _handles(corners)
        self._tree = KDTree(handles, balanced_tree=False)
        self._cell_size = CELL_SIZE * float(np.median(self._handle_radii))
        self._origins = corners[:, 0]
        self._frames = _triangle_frames(corners)
        self.normals: Float[np.ndarray, "f 3"] = self._frames[:, 2]
        local = np.einsum("fab,fkb->fka", self._frames, corners[:, 1:] - corners[:, :1])
        # In its frame a triangle is (0, 0), (x1, 0), (x2, y2) with x1 >= 0 and y2 >= 0.
        self._shapes = np.stack([local[:, 0, 0], local[:, 1, 0], local[:, 1, 1]])
        self._center = self._origins.mean(axis=0)
        columns = [(self._origins - self._center).T, self._frames.reshape(-1, 9).T, self._shapes]
        self._columns = np.concatenate(columns).astype(np.float32)  # [15, f], for `_rough_distances`

    def closest(self, points: Float[np.ndarray, "n 3"], *, try_all: bool | None = None) -> ClosestPoints:
        """The closest point of the surface to each point, exact up to rounding.

        With `try_all` the triangle is found by trying all of them in float32: of two that are equally close within
        1e-6 of the mesh's size either may be taken. None: where JAX runs on an accelerator.
        """
        points = np.asarray(points, np.float64)
        if not len(points):
            return ClosestPoints(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64))
        if try_all is None:
            try_all = jax.default_backend() != "cpu"
        if try_all:
            return self._on_faces(points, nearest_face(points, self._origins, self._frames, self._shapes))
        cells = _cells(points, self._cell_size)
        found = self._near_cells(cells)
        inside = points[cells.order]
        faces = found.faces[found.closest[cells.cell]]
        distances = self._distances(inside, faces)
        error = ROUGH_ERROR * float(max(np.abs(points - self._center).max(), np.abs(self._columns[:3]).max()))
        for start in range(0, len(points), POINTS_AT_A_TIME):
            some = slice(start, start + POINTS_AT_A_TIME)
            own, bound, cell = inside[some], distances[some], cells.cell[some]
            # The other candidates of the cell, unless their lower bound rules them out.
            rows, entries = _expand(found.starts[cell], found.starts[cell + 1])
            open_ = found.distances[entries] - cells.offsets[some][rows] < bound[rows]
            rows, candidates = self._least(own, bound, rows[open_], found.faces[entries[open_]], error=error)
            other = self._distances(own[rows], candidates)
            better = np.flatnonzero(other < bound[rows])
            better = better[np.argsort(-other[better])]  # of several for one row the last, the closest, stays
            faces[some][rows[better]] = candidates[better]
        in_order = np.empty_like(faces)
        in_order[cells.order] = faces
        return self._on_faces(points, in_order)

    def _near_cells(self, cells: "_Cells") -> "_Candidates":
        """For each cell the triangles that can be the closest one of any of its points."""
        bound = self._best_of_nearest(cells.centers, FIRST_CANDIDATES)[1] + 2 * cells.radii
        bound = bound * (1 + 1e-9)  # rounding must not lose a candidate
        found = self._tree.query_ball_point(cells.centers, bound + self._handle_radii.max(), return_sorted=False)
        rows = np.repeat(np.arange(len(bound)), [len(handles) for handles in found])
        handles = np.fromiter(chain.from_iterable(found), np.int64, count=len(rows))
        offset = cells.centers[rows] - self._tree.data[handles]
        near = np.sqrt(np.einsum("na,na->n", offset, offset)) - self._handle_radii[handles] <= bound[rows]
        # A triangle with several handles was found several times.
        code = np.sort(rows[near] * len(self._origins) + self._handle_faces[handles[near]])
        rows, faces = np.divmod(code[np.concatenate([[True], code[1:] != code[:-1]])], len(self._origins))
        distances = self._distances(cells.centers[rows], faces)
        least = np.minimum.reduceat(distances, np.searchsorted(rows, np.arange(len(bound))))[rows]
        near = distances <= (least + 2 * cells.radii[rows]) * (1 + 1e-9)
        rows, faces, distances, least = rows[near], faces[near], distances[near], least[near]
        closest = np.zeros(len(bound), np.int64)
        hits = np.flatnonzero(distances == least)
        closest[rows[hits]] = hits
        return _Candidates(np.searchsorted(rows, np.arange(len(bound) + 1)), faces, distances, closest)

    def closest_of_few(self, points: Float[np.ndarray, "n 3"], *, candidates: int) -> ClosestPoints:
        """The closest point among the triangles with the nearest handles: an upper bound of the distance, and faster.

        Right for nearly all points of evenly meshed faces: enough for the steps of an iteration, not for its result.
        """
        points = np.asarray(points, np.float64)
        return self._on_faces(points, self._best_of_nearest(points, candidates)[0])

    def _best_of_nearest(
        self, points: Float[np.ndarray, "n 3"], count: int
    ) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """The best of the triangles of the `count` nearest handles, and its distance."""
        _, handles = self._tree.query(points, k=min(count, len(self._handle_faces)))
        candidates = self._handle_faces[np.reshape(handles, (len(points), -1))]
        rough = self._rough_distances(np.repeat(points, candidates.shape[1], axis=0), candidates.ravel())
        best = candidates[np.arange(len(points)), rough.reshape(candidates.shape).argmin(axis=1)]
        return best, self._distances(points, best)

    def _least(
        self,
        points: Float[np.ndarray, "n 3"],
        bounds: Float[np.ndarray, "n"],
        rows: Int[np.ndarray, "e"],
        faces: Int[np.ndarray, "e"],
        *,
        error: float,
    ) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
        """Of the pairs of a point (its row, ascending) and a face, those that can be the closest and in bounds."""
        if not len(rows):
            return rows, faces
        rough = self._rough_distances(points[rows], faces)
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        least = np.minimum(np.minimum.reduceat(rough, starts), bounds[rows[starts]])
        near = rough <= np.repeat(least, np.diff(np.append(starts, len(rows)))) + 2 * error
        return rows[near], faces[near]

    def _rough_distances(self, points: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """`_distances` in float32."""
        columns = np.ascontiguousarray((points - self._center).T, np.float32)
        distances = np.empty(len(faces), np.float32)
        for start in range(0, len(faces), BLOCK):
            block = slice(start, start + BLOCK)
            table = self._columns.take(faces[block], axis=1)
            offset = columns[:, block] - table[:3]
            x, y, z = (sum(offset[k] * table[3 + 3 * row + k] for k in range(3)) for row in range(3))
            closest_x, closest_y = closest_in_plane(x, y, *table[12:])
            distances[block] = np.sqrt((x - closest_x) ** 2 + (y - closest_y) ** 2 + z**2)
        return distances

    def _distances(self, points: Float[np.ndarray, "*n 3"], faces: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Distance of each point to the triangle beside it."""
        if faces.ndim == 1 and len(faces) > BLOCK:
            blocks = (slice(start, start + BLOCK) for start in range(0, len(faces), BLOCK))
            return np.concatenate([self._distances(points[block], faces[block]) for block in blocks])
        x, y, z = np.einsum("...ab,...b->a...", self._frames[faces], points - self._origins[faces])
        closest_x, closest_y = closest_in_plane(x, y, *self._shapes[:, faces])
        return np.sqrt((x - closest_x) ** 2 + (y - closest_y) ** 2 + z**2)

    def _on_faces(self, points: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "n"]) -> ClosestPoints:
        """The closest point of the given triangle to each point."""
        frames, origins = self._frames[faces], self._origins[faces]
        x, y, _ = np.einsum("nab,nb->an", frames, points - origins)
        x, y = closest_in_plane(x, y, *self._shapes[:, faces])
        closest = origins + x[:, None] * frames[:, 0] + y[:, None] * frames[:, 1]
        return ClosestPoints(closest, np.linalg.norm(points - closest, axis=-1), faces)


def _cells(points: Float[np.ndarray, "n 3"], size: float) -> _Cells:
    """Group points by the cubes of a grid. A size of zero (a mesh that is one point) makes one cell of all."""
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    size = max(size, extent.max() / 2**20, np.finfo(np.float64).tiny)  # keys of three axes fit in 64 bits
    x, y, z = ((points - low) / size).astype(np.int64).T
    key = (x << 42) + (y << 21) + z
    order = np.argsort(key)
    key, inside = key[order], points[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    counts = np.diff(np.append(starts, len(points)))
    centers = np.add.reduceat(inside, starts) / counts[:, None]
    cell = np.repeat(np.arange(len(starts)), counts)
    offset = inside - centers[cell]
    offsets = np.sqrt(np.einsum("na,na->n", offset, offset))
    return _Cells(order, cell, offsets, centers, np.maximum.reduceat(offsets, starts))


def _expand(
    starts: Int[np.ndarray, "n"], ends: Int[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "e"], Int[np.ndarray, "e"]]:
    """All of the ranges starts[i] .. ends[i] in a row: which i each element belongs to, and the element."""
    counts = ends - starts
    rows = np.repeat(np.arange(len(starts)), counts)
    return rows, np.arange(len(rows)) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def _handles(corners: Float[np.ndarray, "f 3 3"]) -> _Handles:
    """Points and radii that cover all triangles.

    Triangles much larger than the median are cut in four, again and again, until their parts are not.
    """
    count = len(corners)
    faces = np.arange(count)
    radius = _radii(corners)
    limit = HANDLE_RADIUS * np.median(radius)
    while True:
        large = radius > limit
        if not large.any() or len(corners) + 3 * large.sum() > MAX_HANDLES * count:
            return _Handles(corners.mean(axis=1), faces, radius)
        a, b, c = np.moveaxis(corners[large], 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (bc, ca, ab))]
        corners = np.concatenate([corners[~large], *parts])
        faces = np.concatenate([faces[~large], *[faces[large]] * 4])
        radius = _radii(corners)


def _radii(corners: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f"]:
    offsets = corners - corners.mean(axis=1, keepdims=True)
    return np.sqrt(np.einsum("fka,fka->fk", offsets, offsets).max(axis=1))


def _triangle_frames(corners: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Orthonormal rows x, y, z per triangle: x along the first edge that has a length, z its normal."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    x = np.where(np.any(first != 0, axis=-1, keepdims=True), first, second)
    x = np.where(np.any(x != 0, axis=-1, keepdims=True), x, [1.0, 0.0, 0.0])
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    height = second - np.sum(second * x, axis=-1, keepdims=True) * x
    length = np.linalg.norm(height, axis=-1, keepdims=True)
    flat = length <= 1e-12 * np.linalg.norm(second, axis=-1, keepdims=True)
    # A triangle without area has no plane: any direction across its line will do.
    across = np.cross(x, np.eye(3)[np.abs(x).argmin(axis=-1)])
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    y = np.where(flat, across, height / np.where(flat, 1.0, length))
    return np.stack([x, y, np.cross(x, y)], axis=1)
