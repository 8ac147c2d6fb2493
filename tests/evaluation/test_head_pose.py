"""Head rotations against rotations that were put in."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sheap_jax.evaluation.head_pose import angles, rotations_of_landmarks, rotations_of_meshes
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable.model import landmarks
from sheap_jax.morphable.registry import load_morphable

SIZE = 224
TURNS = np.array([[0.0, 0, 0], [10, 0, 0], [0, 35, 0], [0, 0, -15], [-8, -40, 5], [12, 25, 10]])  # pitch, yaw, roll


@pytest.fixture(scope="module")
def neutral() -> np.ndarray:
    model = load_morphable("embedded:coarse")
    return np.asarray(landmarks(model, model.template, np.zeros((len(model.parents), 3), np.float32)))


@pytest.fixture(scope="module")
def rotations() -> np.ndarray:
    pitch, yaw, roll = TURNS.T
    return Rotation.from_euler("YXZ", np.stack([yaw, pitch, roll], axis=1), degrees=True).as_matrix()


def test_angles_of_rotations(rotations):
    np.testing.assert_allclose(angles(rotations), TURNS, atol=1e-6)


def test_meshes_that_were_turned_and_moved(neutral, rotations):
    posed = neutral @ np.swapaxes(rotations, 1, 2) + [0.01, -0.02, 0.1]
    found = rotations_of_meshes(posed, np.broadcast_to(neutral, posed.shape))
    np.testing.assert_allclose(found, rotations, atol=1e-5)


def test_landmarks_in_a_picture(neutral, rotations):
    """Exact landmarks give the angles to a tenth of a degree."""
    posed = neutral @ np.swapaxes(rotations, 1, 2) + [0.005, -0.01, 0.02]
    points = np.asarray(project(posed.astype(np.float32), official_camera(SIZE)))
    found = angles(rotations_of_landmarks(points, neutral, image_size=SIZE))
    np.testing.assert_allclose(found, TURNS, atol=0.1)
