import time

import numpy as np
import pytest
import trimesh

from sheap_jax.evaluation.point_to_surface import Surface


def brute_force(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance by trimesh's point-triangle routine, every point against every triangle."""
    triangles = np.repeat(vertices[faces][None], len(points), axis=0).reshape(-1, 3, 3)
    closest = trimesh.triangles.closest_point(triangles, np.repeat(points, len(faces), axis=0))
    return np.linalg.norm(closest.reshape(len(points), -1, 3) - points[:, None], axis=-1).min(axis=1)


def distances(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Ours."""
    return Surface(vertices, faces).closest(points).distances


def _uneven_mesh() -> tuple[np.ndarray, np.ndarray]:
    """A bumpy ball of 10 cm with two triangles as large as itself: a worst case for searching by centres."""
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    rng = np.random.default_rng(0)
    vertices = np.asarray(mesh.vertices) * (1 + 0.1 * rng.normal(size=(len(mesh.vertices), 1)))
    large = 0.4 * rng.normal(size=(6, 3))
    return np.concatenate([vertices, large]), np.concatenate([mesh.faces, len(vertices) + np.arange(6).reshape(2, 3)])


@pytest.mark.parametrize("spread", [0.02, 0.1, 1.0])
def test_distances_equal_trimesh(spread):
    vertices, faces = _uneven_mesh()
    points = spread * np.random.default_rng(1).normal(size=(150, 3))
    ours = distances(points, vertices, faces)
    np.testing.assert_allclose(ours, brute_force(points, vertices, faces), atol=1e-8)  # metres: 1e-5 mm


@pytest.mark.parametrize("seed", range(3))
def test_dense_scans_equal_trimesh(seed):
    """Many points to a triangle share their candidates: none may be lost. Millimetres, random triangles."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 100, (40, 1, 3)) + rng.normal(size=(40, 3, 3)) * rng.uniform(0.1, 40, (40, 1, 1))
    faces = np.arange(120).reshape(40, 3)
    weights = rng.dirichlet(np.ones(3), (40, 30))
    points = (weights @ corners + rng.normal(size=(40, 30, 3)) * rng.choice([0, 0.5, 10], (40, 1, 1))).reshape(-1, 3)
    ours = distances(points, corners.reshape(-1, 3), faces)
    np.testing.assert_allclose(ours, brute_force(points, corners.reshape(-1, 3), faces), atol=1e-5)


@pytest.mark.parametrize("count", [5, 600])
def test_trying_all_triangles_gives_the_same_distances(count):
    """Accelerators do it in float32: of triangles that are as close, either may be taken."""
    vertices, faces = _uneven_mesh()
    points = 0.1 * np.random.default_rng(3).normal(size=(count, 3)) + 5.0
    surface = Surface(vertices + 5.0, faces)
    by_tree, by_all = (surface.closest(points, try_all=choice) for choice in (False, True))
    np.testing.assert_allclose(by_all.distances, by_tree.distances, atol=1e-6 * np.ptp(vertices))
    assert (by_all.distances >= by_tree.distances - 1e-12).all()


def test_no_points_have_no_distances():
    vertices, faces = _uneven_mesh()
    assert distances(np.zeros((0, 3)), vertices, faces).shape == (0,)


def test_closest_points_lie_on_their_faces_at_their_distances():
    vertices, faces = _uneven_mesh()
    points = 0.1 * np.random.default_rng(2).normal(size=(60, 3))
    found = Surface(vertices, faces).closest(points)
    np.testing.assert_allclose(np.linalg.norm(points - found.points, axis=1), found.distances, atol=1e-12)
    barycentric = trimesh.triangles.points_to_barycentric(vertices[faces[found.faces]], found.points)
    assert barycentric.min() > -1e-9
    back = np.einsum("nk,nkc->nc", barycentric, vertices[faces[found.faces]])
    np.testing.assert_allclose(back, found.points, atol=1e-12)


def test_the_quick_search_never_reports_less_than_the_exact_distance_and_is_mostly_right():
    vertices, faces = _uneven_mesh()
    points = 0.1 * np.random.default_rng(3).normal(size=(500, 3))
    surface = Surface(vertices, faces)
    excess = surface.closest_of_few(points, candidates=4).distances - surface.closest(points).distances
    assert excess.min() > -1e-12
    assert np.mean(excess > 1e-9) < 0.2


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((0.2, 0.2, 3.0), 3.0),
        ((-3.0, -4.0, 0.0), 5.0),
        ((0.5, -2.0, 0.0), 2.0),
        ((4.0, 0.0, 4.0), 5.0),
        ((1.0, 1.0, 0.0), 0.5**0.5),
    ],
)
def test_one_triangle_interior_corners_and_edges(point, distance):
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for order in ([0, 1, 2], [0, 2, 1], [1, 2, 0]):
        found = distances(np.array([point]), corners, np.array([order]))
        np.testing.assert_allclose(found, distance, rtol=1e-12)


@pytest.mark.parametrize("face", [[0, 1, 1], [1, 1, 0], [0, 1, 2], [2, 1, 0], [0, 2, 1]])
def test_triangles_without_area_are_segments(face):
    vertices = np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]])
    points = np.array([[1.0, 3, 4], [-3, 4, 0], [1.5, 0, 0], [5, 0, 4]])
    np.testing.assert_allclose(distances(points, vertices, np.array([face])), [5, 5, 0, 5], atol=1e-12)


def test_a_triangle_that_is_a_point():
    np.testing.assert_allclose(distances(np.array([[3.0, 4, 0]]), np.zeros((1, 3)), np.zeros((1, 3), int)), 5)


def test_empty_or_broken_meshes_are_refused():
    with pytest.raises(ValueError, match="at least one triangle"):
        Surface(np.zeros((3, 3)), np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="finite"):
        Surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))


def test_three_thousand_points_against_a_head_sized_mesh_take_a_fraction_of_a_second():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.1)  # 5,120 faces
    points = np.asarray(trimesh.creation.icosphere(subdivisions=4, radius=0.101).vertices)
    surface = Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    surface.closest(points)
    start = time.process_time()
    surface.closest(points)
    assert time.process_time() - start < 0.25  # about 0.03 s on a quiet core: room for a busy machine
