import numpy as np
import pytest
import trimesh

from sheap_jax.evaluation.geometry_scores import (
    Mesh,
    Scan,
    ScanErrors,
    cumulative_curve,
    errors_of_all,
    pool,
    scan_errors,
    statistics,
)


@pytest.fixture(scope="module")
def ball():
    """A bumpy ball of 10 cm radius in metres."""
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    vertices = np.asarray(mesh.vertices) * (1 + 0.1 * np.sin(40 * np.asarray(mesh.vertices)[:, [1, 2, 0]]))
    return vertices, np.asarray(mesh.faces), vertices[::90][:7]


def test_similarity_forgives_size_and_rigid_does_not(ball):
    vertices, faces, landmarks = ball
    errors = scan_errors(Scan(vertices, landmarks), Mesh(1.1 * vertices, 1.1 * landmarks), faces)
    assert errors.similarity.max() < 1e-3  # mm
    assert 5 < np.median(errors.rigid) < 12  # 10 % of 100 mm


def test_errors_are_millimetres_of_the_scan_also_when_the_mesh_is_smaller(ball):
    vertices, faces, landmarks = ball
    scan = Scan(vertices, landmarks)
    noisy = vertices + 0.001 * np.random.default_rng(0).normal(size=vertices.shape)
    whole = scan_errors(scan, Mesh(noisy, landmarks), faces).similarity
    half = scan_errors(scan, Mesh(0.5 * noisy, 0.5 * landmarks), faces).similarity
    assert 0.2 < np.median(whole) < 2
    assert np.median(half) == pytest.approx(np.median(whole), rel=0.01)


def test_all_pairs_come_back_in_order(ball):
    vertices, faces, landmarks = ball
    scan = Scan(vertices[::5], landmarks)
    meshes = [Mesh(size * vertices, size * landmarks) for size in (1.0, 1.2, 1.1)]
    seen = []
    errors = errors_of_all([(scan, mesh) for mesh in meshes], faces, progress=lambda jobs: seen.extend(jobs) or seen)
    medians = [np.median(one.rigid) for one in errors]
    assert medians[0] < medians[2] < medians[1]
    assert len(seen) == 3


def test_pooling_joins_points_not_images():
    pooled = pool([ScanErrors(np.array([0.0]), np.zeros(1)), ScanErrors(np.array([1.0, 2.0, 6.0]), np.ones(3))])
    result = statistics(pooled.similarity)
    assert (result.median, result.mean) == (1.5, 2.25)
    assert result.std == pytest.approx(np.sqrt((2.25**2 + 1.25**2 + 0.25**2 + 3.75**2) / 4))


def test_cumulative_curve_counts_points_up_to_each_threshold():
    curve = cumulative_curve(np.array([3.0, 1.0, 1.0, 9.0]), np.array([0.5, 1.0, 2.9, 3.0, 8.0]))
    assert curve.tolist() == [0, 50, 50, 75, 75]
