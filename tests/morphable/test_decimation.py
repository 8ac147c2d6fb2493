"""Decimation on meshes whose right answer is known."""

import numpy as np
import trimesh

from sheap_jax.morphable.decimation import decimate


def grid(side: int):
    """A flat square of `side` x `side` vertices."""
    y, x = np.mgrid[:side, :side]
    points = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], axis=1).astype(float)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    first = np.stack([corner, corner + 1, corner + side], axis=1)
    return points, np.concatenate([first, np.stack([corner + 1, corner + side + 1, corner + side], axis=1)])


def run(shapes, faces, count, *, locked=(), lines=()):
    total = shapes.shape[1]
    mask = np.zeros(total, bool)
    mask[list(locked)] = True
    edges = np.asarray(lines, int).reshape(-1, 2)
    return decimate(shapes, faces, count, importance=np.ones(total), locked=mask, lines=edges)


def area(points, faces):
    first, second = (points[faces[:, k]] - points[faces[:, 0]] for k in (1, 2))
    return np.linalg.norm(np.cross(first, second), axis=1).sum() / 2


def test_a_flat_square_keeps_its_outline():
    points, faces = grid(7)
    small = run(points[None], faces, 12)
    assert len(np.unique(small)) <= 12
    assert {0, 6, 42, 48} <= set(np.unique(small).tolist())
    np.testing.assert_allclose(area(points, small), 36.0)


def test_locked_vertices_stay():
    points, faces = grid(7)
    assert {24, 17} <= set(np.unique(run(points[None], faces, 10, locked=(17, 24))).tolist())


def test_lines_stay_lines():
    """A seam through the middle of a flat square: triangles never cross it."""
    points, faces = grid(7)
    seam = [(k, k + 7) for k in range(3, 45, 7) if k + 7 < 49]
    small = run(points[None], faces, 10, lines=seam)
    sides = points[small][..., 0] - 3.0
    assert ((sides >= 0).all(axis=1) | (sides <= 0).all(axis=1)).all()
    assert (sides > 0).any()


def test_a_shape_that_bends_keeps_vertices_where_it_bends():
    """Flat in the first shape, folded along x = 3 in the second: the fold is kept though the first does not show it."""
    points, faces = grid(7)
    folded = points.copy()
    folded[:, 2] = 2.0 * np.abs(points[:, 0] - 3.0)
    small = run(np.stack([points, folded]), faces, 10)
    np.testing.assert_allclose(area(folded, small), area(folded, faces), rtol=1e-6)
    assert len(np.unique(small)) <= 10


def test_a_sphere_stays_closed_and_round():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    points, faces = np.asarray(sphere.vertices), np.asarray(sphere.faces)
    small = run(points[None], faces, 100)
    mesh = trimesh.Trimesh(points, small, process=False)
    mesh.remove_unreferenced_vertices()
    assert len(mesh.vertices) == 100
    assert mesh.is_watertight
    assert mesh.volume > 0.93 * sphere.volume
    np.testing.assert_array_equal(run(points[None], faces, 100), small)  # the same again
