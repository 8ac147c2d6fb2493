"""Where the mesh is laid over the picture."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sheap_jax.cropping import CropBox
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.inference import head_geometry, overlays
from sheap_jax.inference.pipeline import Footage, Prediction
from sheap_jax.morphable.model import mean_params
from tests.training.conftest import ellipsoid

MODEL = ellipsoid()
FACES = np.asarray(MODEL.faces)


@pytest.mark.parametrize(("center", "half"), [((90.3, 70.8), 40.0), ((15.0, 110.0), 30.0)])
def test_the_overlay_covers_the_projected_mesh(tmp_path, center, half):
    """Against triangles filled by OpenCV at the vertices that the picture's camera gives; the second is cut off."""
    image = np.full((130, 180, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    vertices = np.asarray(MODEL.template)[None] + (0.01, -0.02, 0.03)
    box = CropBox(np.array([center]), np.array([half]))
    footage = Footage(Clip("a", "a", (tmp_path / "a.png",), is_video=False), np.array([0.0, 0.04]), 130, 180)
    prediction = Prediction(footage, np.zeros(1, int), np.zeros(1, int), box, mean_params(MODEL, 1))
    (beside,) = overlays.overlay_frames(FACES, prediction, vertices, beside=True)
    np.testing.assert_array_equal(beside[:, :180], image)
    covered = np.abs(beside[:, 180:].astype(int) - 90).max(axis=2) > 8
    expected = np.zeros((130, 180), np.uint8)
    pixels = head_geometry.project_points(head_geometry.picture_cameras(box).matrix, vertices)[0]
    for face in FACES:
        cv2.fillConvexPoly(expected, np.round((pixels[face] - 0.5) * 16).astype(np.int32), 1, shift=4)
    union = (covered | (expected > 0)).sum()
    assert union > 500
    assert (covered & (expected > 0)).sum() > 0.95 * union


def test_a_face_outside_the_picture_changes_nothing():
    image = np.full((20, 20, 3), 90, np.uint8)
    window = overlays.Window(np.ones((8, 8, 3)), np.ones((8, 8), bool))
    overlays.lay_over(image, window, CropBox(np.array([100.0, 5.0]), np.array(10.0)))
    assert (image == 90).all()


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    footage = Footage(Clip("a", "a", (tmp_path / "a.png",), is_video=False), np.array([0.0, 0.04]), 20, 20)
    box = CropBox(np.full((1, 2), 500.0), np.full(1, 10.0))
    prediction = Prediction(footage, np.zeros(1, int), np.zeros(1, int), box, mean_params(MODEL, 1))
    vertices = np.asarray(MODEL.template)[None]
    with pytest.raises(OSError, match=r"a\.png"):
        overlays.write_overlay(Path(tmp_path / "a.png/x"), FACES, prediction, vertices, beside=False)
