"""Meshes of the embedded head at a chosen density: points on the chart, triangles, uv.

Loops of points follow the lids, the lips and the ears; the rest is filled with points whose spacing follows the wanted
density, evened out by a few smoothing steps and joined by the Delaunay triangulation of the sphere (its convex hull).
One half is built and mirrored, so that the mesh is exactly symmetric.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, KDTree

from sheap_jax.morphable.embedded.anatomy import EYE, Points
from sheap_jax.morphable.embedded.density import Density, spacing
from sheap_jax.morphable.embedded.eyeball import eyeball, join_loops
from sheap_jax.morphable.embedded.surface import (
    CUT_ANGLE,
    NECK_AXIS,
    Opening,
    ear_chart,
    ear_coordinates,
    in_mouth,
    lid_curve,
    lid_strip,
    mouth_angles,
    mouth_bag,
    mouth_curve,
    mouth_plane,
    normalized,
    skin,
)

MIRROR = np.array([-1.0, 1.0, 1.0])


class HeadMesh(NamedTuple):
    """Vertices in the face frame with what the modes need to know of each."""

    points: Float[np.ndarray, "v 3"]  # millimetres
    chart: Float[np.ndarray, "v 3"]  # directions; those of inner strips lie inside their opening
    mouth: Float[np.ndarray, "v 2"]  # on the mouth plane, relative to the lip line; for the mouth bag: of its lip point
    anchor: Float[np.ndarray, "v 3"]  # what a vertex follows: its own point, its lid or lip, its eye's centre
    part: Int[np.ndarray, "v"]  # index into PARTS
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "u 2"]
    uv_faces: Int[np.ndarray, "f 3"]


PARTS = ("skin", "lid_strip", "mouth_bag", "left_eyeball", "right_eyeball")


def _midline(density: Density) -> Points:
    """Chart directions on the plane of symmetry from the front of the neck's cut over face and crown to its back."""
    tilt = np.arctan2(NECK_AXIS[2], NECK_AXIS[1])
    angle = np.linspace(tilt + CUT_ANGLE, tilt + 2 * np.pi - CUT_ANGLE, 3000)
    chart = np.stack([np.zeros(3000), np.cos(angle), np.sin(angle)], axis=1)
    points = skin(chart)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1)
    budget = np.concatenate([[0.0], np.cumsum(np.minimum(length, 8.0) / (0.8 * spacing(points[1:], density)))])
    count = round(budget[-1])
    return chart[np.searchsorted(budget, np.linspace(0, budget[-1], count + 1)[1:-1])]


def _neck_cut(count: int) -> Points:
    angle = 2 * np.pi * np.arange(count) / count
    side = np.cross(NECK_AXIS, [1.0, 0, 0])
    x = np.where(np.isclose(np.sin(angle), 0.0), 0.0, np.sin(angle))
    ring = x[:, None] * [1.0, 0, 0] + np.cos(angle)[:, None] * side
    return np.cos(CUT_ANGLE) * NECK_AXIS + np.sin(CUT_ANGLE) * ring


def _fill(fixed: Points, density: Density, seed: int = 0) -> Points:
    """Chart directions of the left half that keep their distance to `fixed` and to each other."""
    count = int(8.0e5 / density.face**2)
    height = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    around = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    flat = np.sqrt(1.0 - height**2)
    chart = np.stack([flat * np.cos(around), height, flat * np.sin(around)], axis=1)
    chart = chart[(chart[:, 0] > 0) & (chart @ NECK_AXIS < np.cos(CUT_ANGLE))]
    chart = np.random.default_rng(seed).permutation(chart)
    points, fixed_points = skin(chart), skin(fixed)
    tree = KDTree(points)
    alive = np.ones(len(points), bool)
    for near in tree.query_ball_point(fixed_points, 0.75 * spacing(fixed_points, density)):
        alive[near] = False
    wanted = spacing(points, density)
    chosen = []
    for index in range(len(points)):
        if alive[index]:
            chosen.append(index)
            alive[tree.query_ball_point(points[index], 0.85 * wanted[index])] = False
    return chart[chosen]


def _triangulate(chart: Points) -> Int[np.ndarray, "f 3"]:
    faces = ConvexHull(chart).simplices.copy()
    a, b, c = (chart[faces[:, k]] for k in range(3))
    inwards = np.einsum("fk,fk->f", np.cross(b - a, c - a), a + b + c) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    return faces


def _smooth(chart: Points, free: np.ndarray, rounds: int) -> Points:
    """Move the points `free` towards the mean of their neighbours."""
    for _ in range(rounds):
        faces = _triangulate(chart)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        total = np.zeros_like(chart)
        degree = np.bincount(edges[:, 0], minlength=len(chart))
        np.add.at(total, edges[:, 0], chart[edges[:, 1]])
        moved = normalized(chart + 0.6 * (total / np.maximum(degree, 1)[:, None] - chart))
        chart = np.where(free[:, None], moved, chart)
    return chart


def _crosses(chart: Points, faces: np.ndarray) -> np.ndarray:
    """Faces with corners on both sides of the plane of symmetry."""
    sides = chart[faces][:, :, 0]
    return (sides.min(axis=1) < -1e-9) & (sides.max(axis=1) > 1e-9)


def _inside(chart: Points, loop: Points) -> np.ndarray:
    """Whether directions lie inside a convex spherical loop given counter-clockwise from outside."""
    normals = np.cross(loop, np.roll(loop, -1, axis=0))
    return np.all(chart @ normals.T > -1e-9, axis=1)


def build_mesh(density: Density) -> HeadMesh:
    """The whole head: skin, inner strips of the openings, eyeballs."""
    lids = [lid_curve(density.lid_points, d) for d in (0.0, *density.lid_loops)]
    lip_angles = mouth_angles(density.mouth_points)
    lips = [mouth_curve(lip_angles, d) for d in (0.0, *density.mouth_loops)]
    turn = 2 * np.pi * np.arange(density.ear_points) / density.ear_points
    ears = [ear_chart(np.full(density.ear_points, r), turn) for r in density.ear_loops]
    lip_chart = np.concatenate([loop.chart for loop in lips])
    lip_half = lip_chart[lip_chart[:, 0] >= 0]
    cut = _neck_cut(density.neck_points)
    fixed = np.concatenate(
        [
            lids[0].chart,
            lip_half,
            cut[cut[:, 0] >= 0],
            *[loop.chart for loop in lids[1:]],
            *ears,
            ear_chart(np.zeros(1), np.zeros(1)),
        ]
    )
    midline = _midline(density)
    midline = midline[~in_mouth(midline, density.mouth_loops[-1] + 0.4 * density.face)]
    fixed = np.concatenate([fixed, midline])
    keep = _outside_openings(fill := _fill(fixed, density), lids, density.mouth_loops[-1])
    fill = fill[keep]
    half = np.concatenate([fixed, fill])
    free = np.arange(len(half)) >= len(fixed)
    chart, free = _mirrored(half, free)
    chart = _smooth(chart, free, 5)
    faces = _triangulate(chart)
    for _ in range(8):  # points that came too near the midline would be joined across it: leave them out
        crossing = np.isin(np.arange(len(chart)), faces[_crosses(chart, faces)]) & free
        if not np.any(crossing):
            break
        chart, free = chart[~crossing], free[~crossing]
        faces = _triangulate(chart)
    return _assemble(chart, faces, density, lids[0], lips[0])


def _mirrored(half: Points, free: np.ndarray) -> tuple[Points, np.ndarray]:
    off = half[:, 0] > 1e-9
    return np.concatenate([half, half[off] * MIRROR]), np.concatenate([free, free[off]])


def _outside_openings(chart: Points, lids: list, reach: float) -> np.ndarray:
    return ~(_inside(chart, lids[-1].chart) | in_mouth(chart, reach) | (ear_coordinates(chart)[0] < 1.05))


def _assemble(chart: Points, faces: np.ndarray, density: Density, lids: Opening, lips: Opening) -> HeadMesh:
    """Cut the openings, mirror the left half's triangles, add inner strips and eyeballs."""
    partner = _match(chart * MIRROR, chart)
    lid_loop, lip_loop = _match(lids.chart, chart), _match(lips.chart, chart)
    cut = np.flatnonzero(chart @ NECK_AXIS > np.cos(CUT_ANGLE) - 1e-9)
    openings = (lid_loop, partner[lid_loop], lip_loop, cut)
    closing = np.any([np.all(np.isin(faces, loop), axis=1) for loop in openings], axis=0)
    if np.any(_crosses(chart, faces) & ~closing):
        raise RuntimeError("embedded head: a triangle crosses the plane of symmetry; refine the midline of the mesh")
    faces = faces[np.all(chart[faces][:, :, 0] > -1e-9, axis=1) & ~closing]
    faces = np.concatenate([faces, partner[faces][:, ::-1]])
    points, mouth = skin(chart), mouth_plane(chart)
    points[lid_loop], points[partner[lid_loop]] = lids.points, lids.points * MIRROR
    parts = [_Part(points, chart, mouth, points, 0)]
    strips = [faces]
    count = len(points)
    for loop, sign in ((lid_loop, 1.0), (partner[lid_loop], -1.0)):
        mirror = np.array([sign, 1.0, 1.0])
        center, outer = normalized(chart[loop].mean(axis=0)), loop
        for depth in (0.3, 1.0):
            inner = count + np.arange(len(loop))
            where = normalized((1 - 0.6 * depth) * chart[loop] + 0.6 * depth * center)
            parts.append(_Part(lid_strip(points[loop] * mirror, depth) * mirror, where, mouth[loop], points[loop], 1))
            strips.append(join_loops(outer, inner)[:, :: int(sign)])
            outer, count = inner, count + len(loop)
    angle = mouth_angles(len(lip_loop))
    center, outer = normalized(chart[lip_loop].mean(axis=0)), lip_loop
    for depth in (0.04, 0.2, 0.5, 0.8, 1.0):
        inner = count + np.arange(len(lip_loop))
        where = normalized((1 - 0.8 * depth) * chart[lip_loop] + 0.8 * depth * center)
        parts.append(_Part(mouth_bag(points[lip_loop], angle, depth), where, mouth[lip_loop], points[lip_loop], 2))
        strips.append(join_loops(outer, inner))
        outer, count = inner, count + len(lip_loop)
    strips.append(_close(outer))
    body_faces = np.concatenate(strips)
    body = _Part(
        points=np.concatenate([p.points for p in parts]),
        chart=np.concatenate([p.chart for p in parts]),
        mouth=np.concatenate([p.mouth for p in parts]),
        anchor=np.concatenate([p.anchor for p in parts]),
        part=0,
    )
    part = np.concatenate([np.full(len(p.points), p.part) for p in parts])
    return _with_eyeballs(body, part, body_faces, density)


class _Part(NamedTuple):
    points: Points
    chart: Points
    mouth: np.ndarray
    anchor: Points
    part: int


def _match(wanted: Points, chart: Points) -> np.ndarray:
    distance, index = KDTree(chart).query(wanted)
    if np.max(distance) > 1e-6:
        raise RuntimeError("embedded head: a loop point is missing from the mesh")
    return np.asarray(index)


def _close(loop: np.ndarray) -> np.ndarray:
    """Triangles that close a flat loop whose point 0 and point n/2 are its corners."""
    n = len(loop)
    faces = []
    for k in range(n // 2):
        quad = loop[k], loop[k + 1], loop[n - k - 1], loop[(n - k) % n]
        if k > 0:
            faces.append((quad[0], quad[2], quad[3]))
        if k < n // 2 - 1:
            faces.append((quad[0], quad[1], quad[2]))
    return np.array(faces)


def hammer(chart: Points, left: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Hammer's equal-area projection of chart directions to the disc in [0, 1]^2; `left` picks the seam's side."""
    side = np.where(left, 1.0, -1.0)
    longitude = side * np.abs(np.arctan2(np.abs(chart[:, 0]), chart[:, 2]))
    flat = np.sqrt(np.maximum(1.0 - chart[:, 1] ** 2, 0.0))
    scale = 1.0 / np.sqrt(1.0 + flat * np.cos(longitude / 2))
    return 0.5 + 0.5 * np.stack([flat * np.sin(longitude / 2) * scale, chart[:, 1] * scale], axis=1)


def _with_eyeballs(body: _Part, part: np.ndarray, faces: np.ndarray, density: Density) -> HeadMesh:
    left_face = body.chart[faces][:, :, 0].mean(axis=1) > 0
    # A uv point per vertex and side: those of the right side follow those of the left; unused ones are dropped.
    uv = np.concatenate([hammer(body.chart, np.ones(len(part), bool)), hammer(body.chart, np.zeros(len(part), bool))])
    uv_faces = np.where(left_face[:, None], faces, faces + len(part))
    points, charts, mouths, labels = [body.points], [body.chart], [body.mouth], [part]
    anchors = [body.anchor]
    count, uv_count = len(part), len(uv)
    uvs, all_faces, all_uv_faces = [uv], [faces], [uv_faces]
    for label, sign in ((3, 1.0), (4, -1.0)):
        ball = eyeball(*density.eyeball)
        direction = ball.points / np.linalg.norm(ball.points, axis=1, keepdims=True)
        points.append(ball.points + EYE * [sign, 1, 1])
        charts.append(direction)
        anchors.append(np.tile(EYE * [sign, 1, 1], (len(direction), 1)))
        mouths.append(np.full((len(direction), 2), 99.0))
        labels.append(np.full(len(direction), label))
        uvs.append(np.array([0.5 + 0.43 * sign, 0.93]) + 0.06 * ball.uv)
        all_faces.append(ball.faces + count)
        all_uv_faces.append(ball.uv_faces + uv_count)
        count, uv_count = count + len(direction), uv_count + len(ball.uv)
    used, compact = np.unique(np.concatenate(all_uv_faces), return_inverse=True)
    return HeadMesh(
        points=np.concatenate(points),
        chart=np.concatenate(charts),
        mouth=np.concatenate(mouths),
        anchor=np.concatenate(anchors),
        part=np.concatenate(labels),
        faces=np.concatenate(all_faces),
        uv=np.concatenate(uvs)[used],
        uv_faces=compact.reshape(-1, 3),
    )
