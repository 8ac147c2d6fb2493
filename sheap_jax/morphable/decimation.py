"""A coarser mesh made of some vertices of a finer one, good for many shapes of it at once.

Half-edge collapses in the order of their quadric error (Garland and Heckbert, SIGGRAPH 97): a vertex is pulled onto a
neighbour, so that no vertex moves and every linear basis of the fine mesh is one of the coarse mesh. The error of a
collapse is summed over several shapes of the same mesh. The same input gives the same mesh.
"""

import heapq

import numpy as np
from jaxtyping import Bool, Float, Int

SHARPEST_TURN = 0.2  # smallest cosine between a triangle's normal before and after a collapse, in every shape
THINNEST = 0.03  # smallest ratio of a triangle's height to its longest side, in the first shape
SLIDE = 1e-5  # weight of the squared way a vertex is pulled, beside the error: it decides where a surface is flat


def decimate(
    shapes: Float[np.ndarray, "k v 3"],
    faces: Int[np.ndarray, "f 3"],
    count: int,
    *,
    importance: Float[np.ndarray, "v"],
    locked: Bool[np.ndarray, "v"],
    lines: Int[np.ndarray, "e 2"],
) -> Int[np.ndarray, "g 3"]:
    """Triangles over at most `count` of the vertices that `faces` use, or over as few as can be.

    Args:
      shapes: the mesh in several shapes; the first one also decides how thin a triangle may get.
      importance: factor of the errors at each vertex.
      locked: vertices that stay.
      lines: edges, such as those of seams, onto which their vertices keep: these are only pulled along them. Borders
        are lines by themselves.
    """
    mesh = _Mesh(shapes, faces, importance, locked, lines)
    kept = np.unique(faces)
    version = np.zeros(shapes.shape[1], np.int64)  # of each vertex's quadric
    queue = []
    for vertex in kept.tolist():
        mesh.offer(queue, version, [(vertex, other) for other in sorted(mesh.neighbours[vertex])])
    left = len(kept)
    while left > count and queue:
        _, stamp, a, b = heapq.heappop(queue)
        if stamp != version[a] + version[b] or b not in mesh.neighbours[a] or not mesh.allows(a, b):
            continue
        mesh.collapse(a, b)
        left -= 1
        version[b] += 1
        around = sorted(mesh.neighbours[b])
        mesh.offer(queue, version, [*((b, other) for other in around), *((other, b) for other in around)])
    return np.array(sorted(mesh.triangles.values()), np.int32)


class _Mesh:
    """Triangles and neighbours by vertex, with the quadric of each vertex in each shape."""

    def __init__(self, shapes, faces, importance, locked, lines):
        self.shapes = np.ascontiguousarray(np.moveaxis(shapes, 1, 0), np.float64)  # [v, k, 3]
        self.triangles = {number: tuple(face) for number, face in enumerate(faces.tolist())}
        count = shapes.shape[1]
        self.of_vertex: list[set[int]] = [set() for _ in range(count)]
        self.neighbours: list[set[int]] = [set() for _ in range(count)]
        for number, face in self.triangles.items():
            for corner, vertex in enumerate(face):
                self.of_vertex[vertex].add(number)
                self.neighbours[vertex] |= {face[corner - 1], face[corner - 2]}
        self.locked = locked
        self.lines: list[set[int]] = [set() for _ in range(count)]
        for a, b in [*lines.tolist(), *_borders(faces).tolist()]:
            self.lines[a].add(b)
            self.lines[b].add(a)
        self.quadrics = self._quadrics(faces) * importance[:, None, None, None]
        self.importance = importance

    def _quadrics(self, faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v k 4 4"]:
        """Squared distances to the planes of the triangles around, weighed by their areas; to lines as to planes."""
        corners = self.shapes[faces]  # [f, 3, k, 3]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        quadric = _plane_quadric(normal, corners[:, 0])
        total = np.zeros((len(self.shapes), self.shapes.shape[1], 4, 4))
        for corner in range(3):
            np.add.at(total, faces[:, corner], quadric)
        for corner in range(3):  # a plane through each line, upright on its triangle
            a, b = faces[:, corner], faces[:, (corner + 1) % 3]
            on_line = np.array([y in self.lines[x] for x, y in zip(a.tolist(), b.tolist(), strict=True)])
            start, along = self.shapes[a[on_line]], self.shapes[b[on_line]] - self.shapes[a[on_line]]
            upright = np.cross(along, normal[on_line])
            size = np.linalg.norm(upright, axis=-1, keepdims=True)
            area = np.sum(along**2, axis=-1, keepdims=True)
            quadric = _plane_quadric(upright / np.where(size > 0, size, 1.0) * area, start)
            for end in (a[on_line], b[on_line]):
                np.add.at(total, end, quadric)
        return total

    def may_move(self, a: int, b: int) -> bool:
        """Whether vertex `a` may ever be pulled onto `b`."""
        if self.locked[a]:
            return False
        line = self.lines[a]
        return not line or (len(line) == 2 and b in line)  # where lines meet or end a vertex stays

    def offer(self, queue: list, version: Int[np.ndarray, "v"], pairs: list[tuple[int, int]]) -> None:
        """Put the pairs whose first vertex may be pulled onto the second into the queue, by error."""
        pairs = [pair for pair in pairs if self.may_move(*pair)]
        if not pairs:
            return
        a, b = np.array(pairs).T
        place = np.concatenate([self.shapes[b], np.ones((*self.shapes[b].shape[:2], 1))], axis=-1)
        form = self.quadrics[a] + self.quadrics[b]
        error = np.sum(place * np.squeeze(form @ place[..., None], axis=-1), axis=(1, 2))
        way = np.sum((self.shapes[a, 0] - self.shapes[b, 0]) ** 2, axis=-1) ** 2
        cost = np.maximum(error, 0.0) + SLIDE * self.importance[a] * way
        for entry in zip(cost.tolist(), (version[a] + version[b]).tolist(), *zip(*pairs, strict=True), strict=True):
            heapq.heappush(queue, entry)

    def allows(self, a: int, b: int) -> bool:
        """Whether the mesh stays a surface, and no triangle turns over, degenerates or comes to lie on lines alone."""
        shared = [number for number in self.of_vertex[a] if number in self.of_vertex[b]]
        if not shared or len(self.neighbours[a] & self.neighbours[b]) != len(shared):
            return False
        moved = [self.triangles[number] for number in self.of_vertex[a] if number not in self.of_vertex[b]]
        if not moved:
            return False
        comes_to_line = self.lines[b] and not self.lines[a]
        if comes_to_line and any(all(self.lines[vertex] for vertex in face if vertex != a) for face in moved):
            return False  # all three corners of a triangle would lie on lines: it could have no area in the uv chart
        old = np.array(moved)
        new = np.where(old == a, b, old)
        before, after = self.shapes[old], self.shapes[new]
        normals = [np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]) for c in (before, after)]
        sizes = [np.linalg.norm(normal, axis=-1) for normal in normals]
        if (np.sum(normals[0] * normals[1], axis=-1) < SHARPEST_TURN * sizes[0] * sizes[1]).any():
            return False
        sides = after[:, [1, 2, 0], 0] - after[:, :, 0]
        return bool((sizes[1][:, 0] > THINNEST * np.sum(sides**2, axis=-1).max(axis=1)).all())

    def collapse(self, a: int, b: int) -> None:
        """Pull `a` onto `b`."""
        for number in sorted(self.of_vertex[a]):
            face = self.triangles.pop(number)
            for vertex in face:
                self.of_vertex[vertex].discard(number)
            if b not in face:
                turned = tuple(b if vertex == a else vertex for vertex in face)
                self.triangles[number] = turned
                for vertex in turned:
                    self.of_vertex[vertex].add(number)
        around = self.neighbours[a]
        for vertex in around:
            self.neighbours[vertex].discard(a)
            if vertex != b:
                self.neighbours[vertex].add(b)
                self.neighbours[b].add(vertex)
        if self.lines[a]:
            for vertex in self.lines[a]:
                self.lines[vertex].discard(a)
                if vertex != b:
                    self.lines[vertex].add(b)
                    self.lines[b].add(vertex)
        self.neighbours[a], self.lines[a] = set(), set()
        self.quadrics[b] += self.quadrics[a]


def _plane_quadric(normal: Float[np.ndarray, "f k 3"], point: Float[np.ndarray, "f k 3"]) -> np.ndarray:
    """area * (distance to the plane)^2 as a form of (x, y, z, 1); the length of `normal` is the area."""
    size = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = normal / np.where(size > 0, size, 1.0)
    plane = np.concatenate([unit, -np.sum(unit * point, axis=-1, keepdims=True)], axis=-1)
    return size[..., None] * plane[..., :, None] * plane[..., None, :]


def _borders(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "e 2"]:
    """Edges of one triangle only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return unique[counts == 1]
