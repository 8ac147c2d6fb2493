"""Augmentation keeps landmarks on their pixels and both frames of a pair alike."""

import numpy as np
import pytest

from sheap_jax.data.augment import FLIP_ORDER, Augmentation, Changes, crop_frames, draw_changes, float_batch
from sheap_jax.types import Batch, RawBatch, RawFrame

SIZE = 32
OFF = Augmentation(flip=False, color_jitter=0.0, crop_jitter=0.0)


def random_frames(pairs: int = 1) -> RawFrame:
    """Sources and targets [2, pairs, ...]."""
    generator = np.random.default_rng(0)
    image = generator.integers(50, 200, (2, pairs, SIZE, SIZE, 3), np.uint8)
    landmarks = generator.uniform(0, SIZE, (2, pairs, 68, 2)).astype(np.float32)
    return RawFrame(image, landmarks, generator.uniform(0, 1, (2, pairs, 68)).astype(np.float32))


def blob_frames(centre: tuple[float, float]) -> RawFrame:
    """A bright spot whose centre is landmark 30, the tip of the nose (on the mirror axis: it stays number 30)."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 2.0**2))
    landmarks = np.zeros((2, 1, 68, 2), np.float32)
    landmarks[:, :, 30] = centre
    image = np.broadcast_to(spot.round().astype(np.uint8)[..., None], (2, 1, SIZE, SIZE, 3)).copy()
    return RawFrame(image, landmarks, np.ones((2, 1, 68), np.float32))


def crops(pairs: int = 1, *, zoom: float = 1.0, shift=(0.0, 0.0)) -> Changes:
    """The same crop for every frame."""
    return Changes(
        np.zeros(pairs, bool),
        np.ones((pairs, 3), np.float32),
        np.full((pairs, 2), zoom),
        np.broadcast_to(shift, (pairs, 2, 2)),
    )


def on_device(frames: RawFrame, mirrored: np.ndarray, gain: np.ndarray | None = None) -> Batch:
    """Mirrored and multiplied by the gain, as the device does it."""
    source, target = (RawFrame(*(values[side] for values in frames)) for side in range(2))
    gain = np.ones((len(mirrored), 3), np.float32) if gain is None else gain
    return float_batch(RawBatch(source, target, mirrored, gain, np.zeros((len(mirrored), 2), np.int32)))


def copied(frames: RawFrame) -> RawFrame:
    return RawFrame._make(values.copy() for values in frames)


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


def test_mirrored_twice_is_the_frame_itself():
    frames = random_frames(2)
    both = np.ones(2, bool)
    once = on_device(frames, both)
    np.testing.assert_allclose(once.target.image, frames.image[1, :, :, ::-1] / 255.0, atol=1e-6)
    bytes_once = np.stack([np.rint(255 * np.asarray(side.image)).astype(np.uint8) for side in once[:2]])
    again = RawFrame(bytes_once, *(np.stack([side[i] for side in once[:2]]) for i in (1, 2)))
    twice = on_device(again, both)
    for side in range(2):
        np.testing.assert_allclose(twice[side].image, frames.image[side] / 255.0, atol=1e-6)
        np.testing.assert_allclose(twice[side].landmarks, frames.landmarks[side], rtol=0, atol=4e-6)
        np.testing.assert_array_equal(twice[side].landmark_weight, frames.landmark_weight[side])


def test_mirror_keeps_a_landmark_on_its_pixel():
    target = on_device(blob_frames((9.25, 14.5)), np.ones(1, bool)).target
    np.testing.assert_allclose(target.landmarks[0, 30], (SIZE - 9.25, 14.5))
    np.testing.assert_allclose(spot_centre(np.asarray(target.image[0])), target.landmarks[0, 30], atol=0.02)


@pytest.mark.parametrize(("zoom", "shift"), [(1.0, (0.1, -0.05)), (0.8, (0.0, 0.0)), (1.3, (0.06, 0.04))])
def test_crop_keeps_a_landmark_on_its_pixel(zoom, shift):
    frames = blob_frames((13.25, 17.5))
    crop_frames(frames, crops(zoom=zoom, shift=shift))
    middle = SIZE / 2
    expected = zoom * (np.array([13.25, 17.5]) - middle) + middle + SIZE * np.array(shift)
    np.testing.assert_allclose(frames.landmarks[0, 0, 30], expected, atol=1e-4)
    np.testing.assert_allclose(spot_centre(frames.image[0, 0]), expected, atol=0.05)


def test_gain_is_shared_by_both_frames_and_kept_in_range():
    frames = random_frames(3)
    gain = draw_changes(OFF._replace(color_jitter=0.2), 3, np.random.default_rng(5)).gain
    assert np.abs(gain - 1).max() <= 0.2
    assert len(np.unique(gain)) == 9  # each pair and channel has its own
    unturned = np.zeros(3, bool)
    batch = on_device(frames, unturned, gain)
    for found, raw in ((batch.source, frames.image[0]), (batch.target, frames.image[1])):
        np.testing.assert_allclose(found.image, raw / 255.0 * gain[:, None, None], atol=1e-6)
    white = frames._replace(image=np.full_like(frames.image, 255))
    assert float(on_device(white, unturned, gain).source.image.max()) == 1.0


def test_mirror_takes_both_frames_or_neither_and_each_half_of_the_time():
    frames = random_frames(200)
    mirrored = draw_changes(OFF._replace(flip=True), 200, np.random.default_rng(0)).mirrored
    batch = on_device(frames, mirrored)
    for k in range(200):
        step = -1 if mirrored[k] else 1
        for side in range(2):
            np.testing.assert_allclose(batch[side].image[k], frames.image[side, k, :, ::step] / 255.0, atol=1e-6)
    assert 70 <= mirrored.sum() <= 130  # 4 standard deviations of a fair coin


def test_everything_off_changes_nothing():
    before = random_frames(8)
    frames = copied(before)
    drawn = draw_changes(OFF, 8, np.random.default_rng(0))
    crop_frames(frames, drawn)
    for found, expected in zip(frames, before, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(drawn.gain, 1.0)
    assert not drawn.mirrored.any()


def test_one_switch_does_not_change_what_the_others_draw():
    one = draw_changes(Augmentation(flip=True, color_jitter=0.1, crop_jitter=0.1), 8, np.random.default_rng(0))
    other = draw_changes(OFF._replace(crop_jitter=0.1), 8, np.random.default_rng(0))
    np.testing.assert_array_equal(one.zoom, other.zoom)
    np.testing.assert_array_equal(one.shift, other.shift)
