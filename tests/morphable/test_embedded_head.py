"""The embedded head against geometry that does not come from its own code: trimesh, anatomy, projection."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable.embedded.head import embedded_head, embedded_person
from sheap_jax.morphable.model import contour_row, forward, landmarks, mean_params

MIRROR_68 = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), *range(45, 41, -1), 47, 46),
        *(*range(39, 35, -1), 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)),
    ]
)
DETAILS = ("coarse", "fine")


def _mesh(detail: str, vertices=None) -> trimesh.Trimesh:
    head = embedded_head(detail=detail)
    vertices = head.template if vertices is None else vertices
    return trimesh.Trimesh(np.asarray(vertices, float), np.asarray(head.faces), process=False)


def _landmarks(rotations=None, detail="coarse") -> np.ndarray:
    head = embedded_head(detail=detail)
    params = mean_params(head)
    if rotations is not None:
        params = params._replace(rotations=jnp.asarray(rotations, jnp.float32))
    return np.asarray(landmarks(head, forward(head, params), params.rotations), np.float64)


@pytest.mark.parametrize("detail", DETAILS)
def test_components_are_consistent_and_outward(detail):
    mesh = _mesh(detail)
    assert mesh.is_winding_consistent
    head, *eyes = sorted(mesh.split(only_watertight=False), key=lambda part: -len(part.vertices))
    assert len(eyes) == 2
    for eye in eyes:
        assert eye.is_watertight
        assert eye.volume == pytest.approx(4 / 3 * np.pi * 0.012**3, rel=0.25)  # inscribed polyhedron
    assert head.volume > 0.003  # m^3, closed or not: the neck's cut and the lids' inner rims are open
    _, counts = np.unique(head.edges_sorted, axis=0, return_counts=True)
    assert set(counts) <= {1, 2}
    assert mesh.area_faces.min() > 0.005e-6  # m^2: triangle frames need an area


@pytest.mark.parametrize("detail", DETAILS)
def test_size_is_that_of_an_adult(detail):
    head = embedded_head(detail=detail)
    points = np.asarray(head.template)
    marks = _landmarks(detail=detail)
    skull = points[np.asarray(head.regions["neck"]) == 0]
    body = skull[np.asarray(head.regions["ears"])[np.asarray(head.regions["neck"]) == 0] == 0]
    assert 0.21 < points[:, 1].max() - marks[8, 1] < 0.25  # chin to crown
    assert 0.14 < np.ptp(body[:, 0]) < 0.165  # width without ears
    assert np.linalg.norm(marks[45] - marks[36]) == pytest.approx(0.092, abs=0.006)  # outer eye corners
    assert np.linalg.norm(marks[54] - marks[48]) == pytest.approx(0.052, abs=0.006)  # mouth corners


class Nearest(NamedTuple):
    face: np.ndarray
    barycentrics: np.ndarray
    distance: np.ndarray


def _nearest_on_fine(points: np.ndarray) -> Nearest:
    """Closest points of the fine mesh: the best of the 16 triangles with the nearest centres."""
    mesh = _mesh("fine")
    candidates = cKDTree(mesh.triangles_center).query(points, k=16)[1]
    repeated = np.repeat(points, 16, axis=0)
    found = trimesh.triangles.closest_point(mesh.triangles[candidates.ravel()], repeated)
    distance = np.linalg.norm(found - repeated, axis=1).reshape(-1, 16)
    best = (np.arange(len(points)), distance.argmin(axis=1))
    face = candidates[best]
    weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], found.reshape(-1, 16, 3)[best])
    return Nearest(face, weights, distance[best])


def test_details_sample_one_surface():
    coarse = embedded_head(detail="coarse")
    smooth = (np.asarray(coarse.regions["face"]) + np.asarray(coarse.regions["skull"])) > 0
    distance = _nearest_on_fine(np.asarray(coarse.template, float)[smooth]).distance
    assert np.max(distance) < 1.5e-3  # chords of the fine mesh
    assert np.median(distance) < 0.15e-3


@pytest.mark.parametrize("basis", ["identity_basis", "expression_basis"])
def test_coefficients_mean_the_same_at_both_details(basis):
    fine, coarse = embedded_head(detail="fine"), embedded_head(detail="coarse")
    upright = np.asarray(coarse.regions["face"]) * (1 - np.asarray(coarse.regions["mouth"]))
    face = np.flatnonzero(upright * (1 - np.asarray(coarse.regions["lids"])))  # there, places are ambiguous
    near = _nearest_on_fine(np.asarray(coarse.template, float)[face])
    corners = np.asarray(getattr(fine, basis))[:, np.asarray(fine.faces)[near.face]]
    sampled = np.einsum("nk,mnkc->mnc", near.barycentrics, corners)
    difference = np.linalg.norm(sampled - np.asarray(getattr(coarse, basis))[:, face], axis=-1)
    assert np.quantile(difference, 0.999) < 0.3e-3
    assert np.median(difference) < 0.03e-3


@pytest.mark.parametrize("detail", DETAILS)
def test_bases_are_finite_independent_and_named(detail):
    head = embedded_head(detail=detail)
    assert len(set(head.expression_names)) == len(head.expression_names) == head.expression_basis.shape[0]
    for basis in (head.identity_basis, head.expression_basis):
        flat = np.asarray(basis, np.float64).reshape(len(basis), -1)
        assert np.isfinite(flat).all()
        values = np.linalg.svd(flat / np.linalg.norm(flat, axis=1, keepdims=True), compute_uv=False)
        assert values.min() > 0.05  # no mode is a mixture of the others
        assert 0.5e-3 < np.linalg.norm(basis, axis=-1).max() < 0.02  # metres
    np.testing.assert_allclose(np.asarray(head.skinning_weights).sum(axis=1), 1.0, atol=1e-6)
    assert np.asarray(head.skinning_weights).min() >= 0
    assert 0 <= np.asarray(head.uv).min() <= np.asarray(head.uv).max() <= 1


def test_uv_chart_does_not_overlap():
    head = embedded_head(detail="coarse")
    corners = np.asarray(head.uv, np.float64)[np.asarray(head.uv_faces)]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    assert np.mean(area > 0) > 0.99
    covered = np.pi * 0.5**2 + 2 * np.pi * 0.06**2
    assert 0.8 * covered < area.sum() < covered


def test_jaw_opens_the_lips_and_leaves_the_upper_head():
    head = embedded_head(detail="coarse")
    rotations = np.zeros((5, 3))
    closed = _landmarks()
    rotations[head.joint_names.index("jaw"), 0] = 0.3
    opened = _landmarks(rotations)
    assert np.linalg.norm(closed[62] - closed[66]) < 0.5e-3
    assert opened[62, 1] - opened[66, 1] > 0.012
    assert np.abs(opened[27:36] - closed[27:36]).max() < 1e-3  # nose
    assert opened[8, 1] < closed[8, 1] - 0.015  # chin


def test_lids_meet_outside_of_the_eyeball():
    head = embedded_head(detail="fine")
    params = mean_params(head)
    both = [head.expression_names.index(f"lid_close_{side}") for side in ("left", "right")]
    closed_params = params._replace(expression=params.expression.at[jnp.array(both)].set(1.0))
    vertices = forward(head, closed_params)
    opened = _landmarks(detail="fine")
    closed = np.asarray(landmarks(head, vertices, params.rotations))
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert opened[upper, 1] - opened[lower, 1] > 0.005
        assert abs(closed[upper, 1] - closed[lower, 1]) < 0.0015
    center = np.asarray(head.joint_regressor @ head.template)[head.joint_names.index("left_eye")]
    assert np.linalg.norm(closed[43:45] - center, axis=1).min() > 0.0119


def test_eyeballs_turn_about_their_joints():
    head = embedded_head(detail="coarse")
    params = mean_params(head)
    joint = head.joint_names.index("left_eye")
    turned = forward(head, params._replace(rotations=params.rotations.at[joint, 1].set(0.4)))
    eye = np.asarray(head.regions["left_eye"]) > 0
    moved = np.linalg.norm(np.asarray(turned - head.template), axis=1)
    assert moved[~eye].max() < 1e-6
    center = np.asarray(head.template)[eye].mean(axis=0) * 0 + np.asarray(head.joint_regressor[joint] @ head.template)
    radius = np.linalg.norm(np.asarray(turned)[eye] - center, axis=1)
    np.testing.assert_allclose(radius, np.linalg.norm(np.asarray(head.template)[eye] - center, axis=1), atol=1e-6)


def test_landmarks_are_symmetric_and_fill_the_window():
    camera = official_camera(224)
    pixels = np.asarray(project(jnp.asarray(_landmarks(), jnp.float32), camera))
    mirrored = pixels[MIRROR_68] * [-1, 1] + [224, 0]
    np.testing.assert_allclose(pixels, mirrored, atol=0.35)  # a tenth of the mesh's edge
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    assert 100 < (high - low).max() < 150
    assert 112 < (low + high)[1] / 2 < 145  # below the middle, as video crops have it


def test_landmarks_are_in_ibug_order():
    marks = _landmarks()
    assert np.all(np.diff(marks[0:17, 0]) > 0)  # the jaw runs from the subject's right (-x) to the left
    assert np.all(np.diff(marks[17:27, 0]) > 0)
    assert np.all(np.diff(marks[27:31, 1]) < 0)
    assert marks[36, 0] < marks[39, 0] < 0 < marks[42, 0] < marks[45, 0]
    assert marks[51, 1] > marks[62, 1] >= marks[66, 1] - 1e-6 > marks[57, 1]
    assert marks[:, 1].argmin() == 8
    assert marks[:, 2].argmax() == 30  # the nose's tip


@pytest.mark.parametrize("degrees", [-35, -30, 30, 35])
def test_contour_lies_on_the_silhouette_of_the_far_cheek(degrees):
    """Of the far side of a turned face, no skin at a contour point's height sticks out beyond it."""
    head = embedded_head(detail="coarse")
    rotations = np.zeros((5, 3))
    rotations[0, 1] = np.radians(degrees)
    marks = _landmarks(rotations)
    params = mean_params(head)._replace(rotations=jnp.asarray(rotations, jnp.float32))
    vertices = np.asarray(forward(head, params))[np.asarray(head.regions["face"]) > 0]
    outward = 1.0 if degrees > 0 else -1.0
    for index in (12, 13, 14) if degrees > 0 else (4, 3, 2):
        same_height = np.abs(vertices[:, 1] - marks[index, 1]) < 0.006
        assert outward * marks[index, 0] > (outward * vertices[same_height, 0]).max() - 0.006
    at_rest = _landmarks(np.zeros((5, 3)))
    unturned = marks @ Rotation.from_euler("y", degrees, degrees=True).as_matrix()  # inverse rotation of rows
    root = np.asarray(head.joint_regressor @ head.template)[0]
    unturned = unturned + root - Rotation.from_euler("y", -degrees, degrees=True).apply(root)
    slid = np.linalg.norm(unturned - at_rest, axis=1)
    near, far = (slice(0, 6), slice(11, 17)) if degrees > 0 else (slice(11, 17), slice(0, 6))
    assert slid[far].max() > 2 * slid[near].max()
    np.testing.assert_allclose(slid[17:], 0.0, atol=1e-6)


def test_contour_rows_follow_flame():
    degrees = np.array([0.0, 0.4, 1.0, 38.6, 39.0, 60.0, -0.6, -1.0, -39.0, -80.0])
    rows = np.asarray(contour_row(jnp.radians(jnp.asarray(degrees)), 79))
    np.testing.assert_array_equal(rows, [0, 0, 1, 39, 39, 39, 40, 40, 78, 78])


def test_people_exceed_the_basis_and_are_reproducible():
    head = embedded_head(detail="coarse")
    face = np.asarray(head.regions["face"]) > 0
    basis = np.asarray(head.identity_basis, np.float64)
    shares = []
    for seed in range(16):
        person = embedded_person(seed, detail="coarse")
        total = np.asarray(person.neutral, np.float64) - np.asarray(head.template)
        rebuilt = np.tensordot(person.shape, basis, axes=1) + person.residual
        np.testing.assert_allclose(total, rebuilt, atol=1e-6)
        flat = basis.reshape(len(basis), -1)
        spanned = flat.T @ np.linalg.lstsq(flat.T, person.residual.ravel().astype(np.float64), rcond=None)[0]
        assert np.linalg.norm(spanned) < 1e-3 * np.linalg.norm(person.residual)
        shares.append((np.sum(person.residual[face] ** 2), np.sum(total[face] ** 2)))
    share = np.sqrt(np.sum(shares, axis=0)[0] / np.sum(shares, axis=0)[1])
    assert 0.12 < share < 0.25
    np.testing.assert_array_equal(
        embedded_person(3, detail="coarse").neutral, embedded_person(3, detail="coarse").neutral
    )
    assert (
        np.abs(embedded_person(3, detail="coarse").neutral - embedded_person(4, detail="coarse").neutral).max() > 2e-3
    )
    np.testing.assert_array_equal(embedded_person(3, detail="fine").shape, embedded_person(3, detail="coarse").shape)


def test_regions_do_not_mix_what_must_stay_apart():
    head = embedded_head(detail="fine")
    face = np.asarray(head.regions["face"])
    for other in ("neck", "ears", "left_eye", "right_eye", "mouth_interior", "skull"):
        assert np.asarray(head.regions[other]).sum() > 0
        assert not np.any(face * np.asarray(head.regions[other]))
    for mask in head.regions.values():
        assert set(np.unique(np.asarray(mask))) <= {0.0, 1.0}


def test_unknown_detail_is_named():
    with pytest.raises(ValueError, match=r"'medium'.*coarse"):
        embedded_head(detail="medium")
