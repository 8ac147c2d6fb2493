"""Augmentation keeps landmarks on their pixels and both frames of a pair alike."""

import numpy as np
import pytest

from sheap_jax.data.augment import FLIP_ORDER, Augmentation, augment_pair, crop, flip
from sheap_jax.types import Frame

SIZE = 32


def random_frame(seed: int) -> Frame:
    generator = np.random.default_rng(seed)
    image = generator.uniform(0.2, 0.8, (SIZE, SIZE, 3)).astype(np.float32)
    weights = generator.uniform(0, 1, 68).astype(np.float32)
    return Frame(image, generator.uniform(0, SIZE, (68, 2)).astype(np.float32), weights)


def blob_frame(centre: tuple[float, float]) -> Frame:
    """A bright spot whose centre is landmark 30, the tip of the nose (on the mirror axis: it stays number 30)."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 2.0**2))
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[30] = centre
    return Frame(np.repeat(spot[..., None], 3, axis=-1).astype(np.float32), landmarks, np.ones(68, np.float32))


def spot_centre(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    light = image[..., 0].astype(np.float64)
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def test_flip_order_exchanges_the_sides():
    np.testing.assert_array_equal(FLIP_ORDER[FLIP_ORDER], np.arange(68))
    assert set(FLIP_ORDER[36:42]) == set(range(42, 48))  # right eye and left eye
    assert set(FLIP_ORDER[17:22]) == set(range(22, 27))  # brows
    fixed = np.flatnonzero(np.arange(68) == FLIP_ORDER)
    assert fixed.tolist() == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]  # chin, nose ridge, middle of the lips


def test_flip_order_mirrors_a_real_head(shared_data):
    with np.load(shared_data / "ict_face_model.npz") as model:
        points = model["vertices"][model["landmark68"]].astype(np.float64)  # centimetres, the mean face is symmetric
    distance = np.linalg.norm(points[FLIP_ORDER] * (-1, 1, 1) - points, axis=-1)
    assert distance.max() < 0.3
    assert np.linalg.norm(points * (-1, 1, 1) - points, axis=-1).max() > 5.0


def test_flip_twice_is_the_frame_itself():
    frame = random_frame(0)
    once = flip(frame)
    np.testing.assert_array_equal(once.image, frame.image[:, ::-1])
    for found, expected in zip(flip(once), frame, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)


def test_flip_keeps_a_landmark_on_its_pixel():
    flipped = flip(blob_frame((9.25, 14.5)))
    np.testing.assert_allclose(flipped.landmarks[30], (SIZE - 9.25, 14.5))
    np.testing.assert_allclose(spot_centre(flipped.image), flipped.landmarks[30], atol=1e-3)


@pytest.mark.parametrize(("zoom", "shift"), [(1.0, (0.1, -0.05)), (0.8, (0.0, 0.0)), (1.3, (0.06, 0.04))])
def test_crop_keeps_a_landmark_on_its_pixel(zoom, shift):
    moved = crop(blob_frame((13.25, 17.5)), zoom=zoom, shift=shift)
    middle = SIZE / 2
    expected = zoom * (np.array([13.25, 17.5]) - middle) + middle + SIZE * np.array(shift)
    np.testing.assert_allclose(moved.landmarks[30], expected, atol=1e-4)
    np.testing.assert_allclose(spot_centre(moved.image), expected, atol=0.05)


def test_gain_is_shared_by_both_frames_and_kept_in_range():
    source, target = random_frame(0), random_frame(1)
    generator = np.random.default_rng(5)
    changed = augment_pair(source, target, Augmentation(flip=False, color_jitter=0.2), generator)
    gains = [after.image / before.image for after, before in zip(changed, (source, target), strict=True)]
    gain = gains[0][0, 0]
    assert np.abs(gain - 1).max() <= 0.2
    assert len(set(gain.round(4))) == 3  # each channel has its own
    for found in gains:
        np.testing.assert_allclose(found, np.broadcast_to(gain, found.shape), rtol=1e-5)
    white = source._replace(image=np.ones_like(source.image))
    brightest = augment_pair(white, white, Augmentation(color_jitter=0.5), generator)
    assert max(frame.image.max() for frame in brightest) == 1.0


def test_flip_takes_both_frames_or_neither_and_each_half_of_the_time():
    source, target = random_frame(0), random_frame(1)
    generator = np.random.default_rng(0)
    mirrored = []
    for _ in range(200):
        pair = augment_pair(source, target, Augmentation(color_jitter=0.0), generator)
        turned = [np.array_equal(a.image, b.image[:, ::-1]) for a, b in zip(pair, (source, target), strict=True)]
        assert turned[0] == turned[1]
        assert turned[0] or np.array_equal(pair[0].image, source.image)
        mirrored.append(turned[0])
    assert 70 <= sum(mirrored) <= 130  # 4 standard deviations of a fair coin


def test_everything_off_changes_nothing():
    source, target = random_frame(0), random_frame(1)
    off = Augmentation(flip=False, color_jitter=0.0, crop_jitter=0.0)
    pair = augment_pair(source, target, off, np.random.default_rng(0))
    for found, expected in zip((*pair[0], *pair[1]), (*source, *target), strict=True):
        np.testing.assert_array_equal(found, expected)
