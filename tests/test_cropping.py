"""The crop rule against the numbers of the official demo, and the image warp against exact pixel positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheap_jax.cropping import CropBox, crop_box, crop_image, follow_box, to_crop
from tests.crop_pixels import from_crop

coordinates = st.floats(-500.0, 500.0)


def test_crop_box_follows_the_rule():
    landmarks = np.full((68, 2), (300.0, 200.0))
    landmarks[0], landmarks[16] = (250.0, 190.0), (350.0, 250.0)  # 100 wide, 60 high
    box = crop_box(landmarks)
    # Half side 50 of the square box: 1.9 x 50 = 95; centre (300, 220) moved up by 0.5 x 50.
    np.testing.assert_allclose(box.center, (300.0, 195.0))
    assert box.half == pytest.approx(95.0)


def test_crop_box_of_many_frames_equals_each_alone():
    landmarks = np.random.default_rng(0).normal(100.0, 30.0, (5, 68, 2))
    boxes = crop_box(landmarks)
    for i, frame in enumerate(landmarks):
        np.testing.assert_allclose(boxes.center[i], crop_box(frame).center)
        np.testing.assert_allclose(boxes.half[i], crop_box(frame).half)


@pytest.mark.parametrize("bad", [np.full((68, 2), np.nan), np.full((68, 2), 7.0)])
def test_landmarks_without_extent_are_refused(bad):
    with pytest.raises(ValueError, match="landmarks"):
        crop_box(bad)


@settings(max_examples=50, deadline=None)
@given(coordinates, coordinates, st.floats(1.0, 400.0), st.integers(16, 512))
def test_to_crop_and_back_is_the_identity(x, y, half, size):
    points = np.array([[0.0, 0.0], [123.4, -56.7]])
    box = CropBox(np.array([x, y]), np.array(half))
    np.testing.assert_allclose(from_crop(to_crop(points, box, size), box, size), points, atol=1e-6)


def test_corners_and_center_of_the_box_land_on_those_of_the_crop():
    box = CropBox(np.array([50.0, 80.0]), np.array(20.0))
    corners = np.array([[30.0, 60.0], [70.0, 100.0], [50.0, 80.0]])
    np.testing.assert_allclose(to_crop(corners, box, 64), [[0, 0], [64, 64], [32, 32]])


def test_unscaled_crop_copies_pixels_and_pads_with_black():
    image = np.random.default_rng(1).integers(1, 256, (40, 50, 3), dtype=np.uint8)
    crop = crop_image(image, CropBox(np.array([10.0, 36.0]), np.array(16.0)), 32)
    expected = np.zeros((32, 32, 3), np.uint8)  # the box spans x -6..26, y 20..52
    expected[:20, 6:] = image[20:40, :26]
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("half", [20.0, 60.0, 200.0])
def test_a_bright_spot_lands_where_its_landmark_does(half):
    image = np.zeros((600, 600, 3), np.uint8)
    image[302:318, 217:233] = 255  # a square about (225, 310)
    box = CropBox(np.array([230.0, 300.0]), np.array(half))
    crop = crop_image(image, box, 96).astype(float)[..., 0]
    rows, columns = np.mgrid[:96, :96] + 0.5
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(found, to_crop(np.array([[225.0, 310.0]]), box, 96)[0], atol=0.15)


def test_shrinking_averages_and_keeps_the_mean():
    checker = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    crop = crop_image(image, CropBox(np.array([256.0, 256.0]), np.array(200.0)), 50)
    assert abs(crop.astype(float) - 127.5).max() < 3  # bilinear sampling would show stripes of 0 and 255


def test_moving_average_matches_the_recurrence_and_fills_gaps():
    start, new = CropBox(np.array([0.0, 0.0]), np.array(10.0)), CropBox(np.array([10.0, -20.0]), np.array(20.0))
    step = follow_box(start, new)
    np.testing.assert_allclose(step.center, (3.0, -6.0))
    assert step.half == pytest.approx(13.0)
    thrice = follow_box(follow_box(step, new), new)  # the same box in three frames
    gap = follow_box(start, new, frames=3)
    np.testing.assert_allclose(gap.center, thrice.center)
    np.testing.assert_allclose(gap.half, thrice.half)
