"""The sliding contour on a vertical cylinder, whose outline is known in closed form."""

import numpy as np
import pytest

from sheap_jax.morphable.contour import YAWS, silhouette_contour
from sheap_jax.morphable.model import contour_row

RADIUS, STEPS, DISTANCE = 0.08, 720, 1.0
HEIGHTS = np.linspace(-0.1, 0.1, 18)


def cylinder():
    """Vertices and faces of rings at HEIGHTS; vertex `k` of a ring lies at the angle 2 pi k / STEPS from +x to +z."""
    angle = np.arange(STEPS) * 2 * np.pi / STEPS
    ring = np.stack([RADIUS * np.cos(angle), np.zeros(STEPS), RADIUS * np.sin(angle)], axis=1)
    vertices = np.concatenate([ring + np.array([0, height, 0]) for height in HEIGHTS])
    k = np.arange(STEPS)
    faces = []
    for ring_index in range(len(HEIGHTS) - 1):
        low, high = ring_index * STEPS, (ring_index + 1) * STEPS
        a, b, c, d = low + k, low + (k + 1) % STEPS, high + k, high + (k + 1) % STEPS
        faces += [np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)]
    return vertices, np.concatenate(faces)


@pytest.fixture(scope="module")
def contour():
    """Landmarks 0-7 at the right edge (x = -r), 8 in front, 9-16 at the left edge, in the middle of faces."""
    vertices, faces = cylinder()
    angle = np.array([180.0] * 8 + [90.0] + [0.0] * 8)
    landmark_faces = (np.arange(17) * 2 * STEPS + angle * STEPS / 360).astype(int)
    faces68 = np.zeros(68, int)
    faces68[:17] = landmark_faces
    barycentrics = np.full((68, 3), 1 / 3)
    skin = np.ones(len(faces), bool)
    rows = silhouette_contour(vertices, faces, faces68, barycentrics, skin=skin, camera_distance=DISTANCE)
    points = np.einsum("rlk,rlkc->rlc", rows.barycentrics, vertices[faces[rows.faces]])
    fixed = np.einsum("lk,lkc->lc", barycentrics[:17], vertices[faces[landmark_faces]])
    return points, fixed


@pytest.mark.parametrize("yaw", [-39, -20, -7, 7, 20, 39])
def test_far_side_lies_on_the_outline(contour, yaw):
    """A ray from (0, D) touches a circle about the origin at z = r^2 / D."""
    points, fixed = contour
    row = int(contour_row(np.radians(np.float32(yaw)), len(YAWS)))
    assert YAWS[row] == yaw
    turn = np.radians(yaw)
    x = np.cos(turn) * points[row, :, 0] + np.sin(turn) * points[row, :, 2]
    z = np.cos(turn) * points[row, :, 2] - np.sin(turn) * points[row, :, 0]
    far = np.array([0, 3, 6]) if yaw < 0 else np.array([10, 13, 16])
    tangent = RADIUS**2 / DISTANCE
    np.testing.assert_allclose(z[far], tangent, atol=1.5 * RADIUS * 2 * np.pi / STEPS)
    np.testing.assert_allclose(np.abs(x[far]), np.sqrt(RADIUS**2 - tangent**2), atol=1e-4)
    assert (np.sign(x[far]) == np.sign(yaw)).all()
    np.testing.assert_allclose(points[row, :, 1], fixed[:, 1], atol=1e-9)  # it slides at its own height


def test_near_side_and_chin_stay(contour):
    points, fixed = contour
    np.testing.assert_allclose(points[YAWS.index(30), :10], fixed[:10], atol=1e-7)
    np.testing.assert_allclose(points[YAWS.index(-30), 7:], fixed[7:], atol=1e-7)
    np.testing.assert_allclose(points[YAWS.index(0)], fixed, atol=1e-7)
