"""The official release's crops: shares of the picture's sides, cut off at its border and stretched."""

import cv2
import numpy as np
import pytest

from sheap_jax.cropping import CropBox, crop_box, crop_image, follow_box, to_crop, upright_box
from sheap_jax.inference.faces import WholePicture
from sheap_jax.inference.head_geometry import picture_cameras, project_points
from tests.crop_pixels import from_crop
from tests.data.official_crops import face, official_corners

SIZES = [(300, 400), (360, 640), (640, 360), (500, 500)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("where", [(0.5, 0.5), (0.1, 0.5), (0.9, 0.12), (0.5, 0.95)])
def test_the_box_is_the_demos(width, height, where):
    landmarks = face(width, height, where=where)
    low, high = official_corners(landmarks, width, height)
    box = upright_box(landmarks, picture=np.array([width, height]))
    np.testing.assert_allclose(box.center - box.half_sides, low, atol=1e-9)
    np.testing.assert_allclose(box.center + box.half_sides, high, atol=1e-9)
    assert box.turns == 0


def test_in_the_middle_of_a_square_picture_both_rules_agree():
    landmarks = face(600, 600)
    ours, theirs = crop_box(landmarks), crop_box(landmarks, picture=np.array([600, 600]))
    np.testing.assert_allclose(theirs.center, ours.center)
    np.testing.assert_allclose(theirs.half_sides, ours.half_sides)
    portrait = crop_box(face(600, 800), picture=np.array([600, 800]))
    assert portrait.half / ours.half == pytest.approx(4 / 3)  # of a face that is wider than high


def test_what_is_cut_off_at_the_border_is_stretched():
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(0, 256, (20, 15, 3), dtype=np.uint8), (300, 400), interpolation=cv2.INTER_CUBIC)
    box = crop_box(face(300, 400, where=(0.2, 0.5)), picture=np.array([300, 400]))
    (left, top), (right, bottom) = (np.round(box.center + sign * box.half_sides).astype(int) for sign in (-1, 1))
    assert right - left != bottom - top
    whole = CropBox(
        np.array([left + right, top + bottom]) / 2, np.array(1.0), stretch=np.array([right - left, bottom - top]) / 2
    )
    crop = crop_image(image, whole, 96)
    expected = cv2.resize(image[top:bottom, left:right], (96, 96), interpolation=cv2.INTER_LINEAR)
    assert np.abs(crop.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_gives_the_crop_of_the_upright_one(turns):
    rng = np.random.default_rng(2)
    image = cv2.resize(rng.integers(0, 256, (20, 15, 3), dtype=np.uint8), (300, 400), interpolation=cv2.INTER_CUBIC)
    landmarks = face(300, 400, where=(0.2, 0.3))
    upright = upright_box(landmarks, picture=np.array([300, 400]))
    turned, points, (width, height) = image, landmarks, (300, 400)
    for _ in range(turns):  # a quarter clockwise: (x, y) -> (height - y, x)
        turned = np.rot90(turned, -1)
        points, (width, height) = np.stack([height - points[:, 1], points[:, 0]], axis=1), (height, width)
    box = upright_box(points, picture=np.array([width, height]))
    assert box.turns == turns
    difference = crop_image(np.ascontiguousarray(turned), box, 96).astype(int) - crop_image(image, upright, 96)
    assert np.abs(difference).max() <= 2
    np.testing.assert_allclose(to_crop(points, box, 96), to_crop(landmarks, upright, 96), atol=1e-9)
    np.testing.assert_allclose(from_crop(to_crop(points, box, 96), box, 96), points, atol=1e-9)


def test_the_camera_of_a_stretched_crop_has_two_focal_lengths():
    box = CropBox(np.array([[80.0, 60.0]]), np.array([50.0]), stretch=np.array([[1.0, 0.6]]))
    points = np.random.default_rng(3).normal(0.0, 0.05, (1, 20, 3))
    x, y, z = np.moveaxis(points, -1, 0)
    in_crop = np.stack([3.9989 * 224 * x / (1 - z) + 112, 112 - 3.9989 * 224 * y / (1 - z)], axis=-1)
    found = project_points(picture_cameras(box).matrix, points)
    np.testing.assert_allclose(found, from_crop(in_crop, box, 224), atol=1e-3)
    np.testing.assert_allclose(found, [80.0, 60.0] + (in_crop - 112) / 112 * [50.0, 30.0], atol=1e-3)


def test_the_average_over_a_video_is_that_of_the_sides():
    first = CropBox(np.zeros(2), np.array(10.0), stretch=np.array([1.0, 0.5]))
    second = CropBox(np.ones(2), np.array(20.0), stretch=np.array([0.8, 1.0]))
    mixed = follow_box(first, second)
    np.testing.assert_allclose(mixed.half_sides, 0.7 * np.array([10.0, 5.0]) + 0.3 * np.array([16.0, 20.0]))


def test_a_picture_that_is_a_crop_is_stretched_as_a_whole():
    (box,) = WholePicture(framing="official").find(0, np.zeros((400, 300, 3), np.uint8))
    np.testing.assert_allclose(box.half_sides, (150.0, 200.0))


def test_a_face_outside_the_picture_is_refused():
    with pytest.raises(ValueError, match="outside the picture"):
        crop_box(face(300, 400, where=(-2.0, 0.5)), picture=np.array([300, 400]))
