import numpy as np
import pytest
import trimesh
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from sheap_jax.evaluation.alignment import Similarity, procrustes
from sheap_jax.evaluation.geometry_scores import Mesh, Scan, scan_errors
from sheap_jax.evaluation.point_to_surface import Surface
from sheap_jax.evaluation.refinement import refine
from sheap_jax.evaluation.scans import face_region


@pytest.fixture(scope="module")
def egg():
    """A bumpy egg without any symmetry: every motion shows."""
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    x, y, z = np.asarray(mesh.vertices).T
    radius = 0.1 * (1 + 0.2 * np.sin(3 * x + y) + 0.15 * np.cos(4 * y - z) + 0.1 * np.sin(5 * z * x))
    return np.asarray(mesh.vertices) * radius[:, None] * [1, 1.3, 0.9], np.asarray(mesh.faces)


def _on_surface(vertices, faces, count, seed):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3), count)
    return np.einsum("nk,nkc->nc", weights, vertices[faces[rng.integers(len(faces), size=count)]])


START = Similarity(1.0, Rotation.from_rotvec([0.1, -0.08, 0.05]).as_matrix(), np.array([0.008, -0.005, 0.004]))


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_scan_of_the_mesh_itself_fits_exactly(egg, with_scale):
    vertices, faces = egg
    truth = Similarity(
        1.15 if with_scale else 1.0, Rotation.from_rotvec([0.4, 1.0, -0.3]).as_matrix(), np.array([1.0, 2.0, 3.0])
    )
    scan = truth.apply(_on_surface(vertices, faces, 600, 0))
    start = Similarity(1.0, START.rotation @ truth.rotation, truth.translation + START.translation)
    found = refine(scan, Surface(vertices, faces), start, with_scale=with_scale)
    assert found.converged
    np.testing.assert_allclose(found.motion.apply(vertices), truth.apply(vertices), atol=2e-6)  # metres
    assert found.motion.scale == pytest.approx(truth.scale, abs=1e-5)


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_different_scan_reaches_the_minimum_of_a_general_optimiser(egg, with_scale):
    vertices, faces = egg
    points = _on_surface(vertices, faces, 150, 1)
    scan = points * [1.1, 0.95, 1.0] + 0.004 * np.sin(40 * points[:, [1, 2, 0]])
    surface = Surface(vertices, faces)

    def energy(motion):
        return np.mean((motion.scale * surface.closest(motion.apply_inverse(scan)).distances) ** 2)

    found = refine(scan, surface, START, with_scale=with_scale)

    def energy_near(x):
        rotation = Rotation.from_rotvec(x[:3]).as_matrix() @ found.motion.rotation
        scale = found.motion.scale * np.exp(x[6] if with_scale else 0.0)
        return 1e6 * energy(Similarity(scale, rotation, found.motion.translation + 0.1 * x[3:6]))

    best = minimize(energy_near, np.zeros(7 if with_scale else 6), method="Powell", options={"maxfev": 600}).fun
    assert energy(found.motion) < 0.5 * energy(START)
    assert 1e6 * energy(found.motion) <= 1.01 * best
    if not with_scale:
        assert found.motion.scale == 1.0


def test_refinement_never_makes_a_start_worse(egg):
    vertices, faces = egg
    surface = Surface(vertices, faces)
    far = Similarity(1.0, Rotation.from_rotvec([0.0, 2.5, 0.0]).as_matrix(), np.array([0.05, 0.0, 0.0]))
    scan = _on_surface(vertices, faces, 300, 2)
    before = surface.closest(far.apply_inverse(scan)).distances
    after = refine(scan, surface, far, with_scale=False).motion
    assert np.mean(surface.closest(after.apply_inverse(scan)).distances ** 2) <= np.mean(before**2)


@pytest.fixture(scope="module")
def real_scan(shared_data):
    """Head scan by Lee Perry-Smith (CC BY 3.0, www.triplegangers.com), in metres: vertices, faces, landmarks."""
    with np.load(shared_data / "scans/lee_perry_smith.npz") as data:
        return data["vertices"] / 1000.0, data["faces"], data["landmarks7"] / 1000.0


@pytest.mark.parametrize("seed", [0, 1])
def test_a_known_similarity_is_found_again_on_a_real_scan(real_scan, seed):
    """The scan as its own prediction, moved, from landmarks that are 3 mm off: every vertex must come home."""
    vertices, faces, landmarks = real_scan
    rng = np.random.default_rng(seed)
    face = vertices[face_region(vertices, landmarks)]
    truth = Similarity(rng.uniform(0.5, 2), Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))
    moved = truth.apply_inverse(vertices)
    start = procrustes(truth.apply_inverse(landmarks + 0.003 * rng.normal(size=(7, 3))), landmarks, with_scale=True)
    before = 1000 * np.median(np.linalg.norm(start.apply(truth.apply_inverse(face)) - face, axis=1))
    found = refine(face, Surface(moved, faces), start, with_scale=True)
    after = 1000 * np.median(np.linalg.norm(found.motion.apply(truth.apply_inverse(face)) - face, axis=1))
    assert before > 1
    assert after < 0.01  # mm
    assert found.motion.scale == pytest.approx(truth.scale, rel=1e-5)


def test_the_error_of_another_head_does_not_depend_on_its_place_and_size(real_scan):
    """Invariance of the whole metric on a real scan; with the scale fixed, size matters."""
    vertices, faces, landmarks = real_scan
    face = vertices[face_region(vertices, landmarks)][::3]
    other = vertices * [1.04, 0.97, 1.0] + 0.002 * np.sin(60 * vertices[:, [1, 2, 0]])
    seven = landmarks * [1.04, 0.97, 1.0]
    plain = scan_errors(Scan(face, landmarks), Mesh(other, seven), faces)
    motion = Similarity(1.25, Rotation.random(random_state=3).as_matrix(), np.array([0.3, -0.1, 2.0]))
    moved = scan_errors(Scan(face, landmarks), Mesh(motion.apply(other), motion.apply(seven)), faces)
    rigid = motion._replace(scale=1.0)
    turned = scan_errors(Scan(face, landmarks), Mesh(rigid.apply(other), rigid.apply(seven)), faces)
    assert np.median(plain.similarity) > 0.3
    np.testing.assert_allclose(moved.similarity, plain.similarity, atol=0.01)
    np.testing.assert_allclose(turned.rigid, plain.rigid, atol=0.01)
    assert np.median(moved.rigid) > 1.5 * np.median(plain.rigid)
