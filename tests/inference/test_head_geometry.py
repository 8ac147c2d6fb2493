"""Cameras of the whole picture against the way through the crop."""

import numpy as np
import pytest

from sheap_jax.cropping import CropBox
from sheap_jax.geometry import official_camera, project
from sheap_jax.inference import head_geometry
from tests.crop_pixels import from_crop

BOX = CropBox(np.array([[300.0, 200.0], [-20.0, 55.5]]), np.array([95.0, 12.25]))


@pytest.mark.parametrize("size", [96, 224])
def test_the_3x4_camera_projects_into_the_picture(size):
    """Head space -> pixels of the crop -> pixels of the picture, against one matrix."""
    points = np.random.default_rng(0).normal(0.0, 0.08, (2, 50, 3))
    through_the_crop = from_crop(np.asarray(project(points, official_camera(size))), BOX, size)
    matrix = head_geometry.picture_cameras(BOX).matrix
    np.testing.assert_allclose(head_geometry.project_points(matrix, points), through_the_crop, atol=2e-3)


def test_the_camera_as_others_use_it():
    """OpenCV's own projection with K, R, t."""
    import cv2

    camera = head_geometry.picture_cameras(BOX)
    points = np.random.default_rng(1).normal(0.0, 0.08, (20, 3))
    for k in range(2):
        view = camera.viewmat[k]
        rotation, _ = cv2.Rodrigues(view[:3, :3])
        expected, _ = cv2.projectPoints(points, rotation, view[:3, 3], camera.intrinsics[k], None)
        matrix = camera.matrix[k]
        np.testing.assert_allclose(head_geometry.project_points(matrix, points), expected[:, 0], rtol=1e-6)
