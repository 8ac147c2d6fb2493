"""Bad cameras: each fault does what its name says, and landmarks are left alone."""

import numpy as np
import pytest
from tiny_clips import make_records

from sheap_jax.config import Data
from sheap_jax.data.degrade import LUMA, BadCamera, degrade, draw_camera
from sheap_jax.data.pairs import pair_batches
from sheap_jax.data.records import write_split

PERFECT = BadCamera(
    gamma=1.0,
    contrast=1.0,
    saturation=1.0,
    tint=np.ones(3, np.float32),
    resolution=1.0,
    blur=0.0,
    noise=0.0,
    quality=100,
)


def picture(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)


def taken(camera: BadCamera, image: np.ndarray) -> np.ndarray:
    out = image.copy()
    degrade(out, camera, np.random.default_rng(1))
    return out


def test_a_perfect_camera_changes_nothing():
    np.testing.assert_array_equal(taken(PERFECT, picture()), picture())


def test_tones():
    grey = taken(PERFECT._replace(saturation=0.0), picture())
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    np.testing.assert_allclose(grey[..., 0], picture() @ LUMA, atol=1.0)
    dark = taken(PERFECT._replace(gamma=2.0), picture())
    np.testing.assert_allclose(dark, 255 * (picture() / 255.0) ** 2, atol=0.51)
    flat = taken(PERFECT._replace(contrast=0.5), picture())
    assert flat.std() == pytest.approx(picture().std() / 2, rel=0.02)
    assert flat.mean() == pytest.approx(picture().mean(), abs=1.0)
    red = taken(PERFECT._replace(tint=np.array([0.5, 1.0, 1.0], np.float32)), picture())
    np.testing.assert_allclose(red[..., 0], picture()[..., 0] / 2, atol=0.51)


@pytest.mark.parametrize("fault", [{"resolution": 0.4}, {"blur": 0.02}])
def test_lost_detail(fault):
    """The mean stays, differences between neighbours shrink."""
    soft = taken(PERFECT._replace(**fault), picture())
    assert soft.mean() == pytest.approx(picture().mean(), abs=1.5)
    assert (
        np.abs(np.diff(soft.astype(float), axis=0)).mean()
        < 0.5 * np.abs(np.diff(picture().astype(float), axis=0)).mean()
    )


def test_noise_has_the_stated_strength_and_jpeg_its_errors():
    plain = np.full((64, 64, 3), 128, np.uint8)
    assert taken(PERFECT._replace(noise=0.05), plain).std() == pytest.approx(0.05 * 255, rel=0.05)
    good, bad = (taken(PERFECT._replace(quality=quality), picture()) for quality in (95, 20))
    errors = [np.abs(image.astype(int) - picture()).mean() for image in (good, bad)]
    assert 0 < errors[0] < errors[1]


def test_cameras_differ_and_stay_within_reason():
    generator = np.random.default_rng(3)
    cameras = [draw_camera(generator) for _ in range(200)]
    assert 0.3 < np.mean([camera.blur > 0 for camera in cameras]) < 0.7
    for camera in cameras[:20]:
        out = taken(camera, picture())
        assert out.std() > 3  # something is left to see


def test_one_camera_takes_both_frames_of_a_pair_and_a_step_is_always_the_same(tmp_path):
    """Saturation 0 in both or in neither; landmarks as without."""
    write_split(tmp_path, "train", make_records({f"p{i}": {"c": 3} for i in range(6)}), settings={})
    plain = {"flip": False, "color_jitter": 0.0}

    def batches(share: float):
        with pair_batches(
            tmp_path, Data(**plain, degrade=share), split="train", batch_size=6, image_size=32, seed=4, threads=0
        ) as stream:
            return [next(stream) for _ in range(4)]

    clean, bad, again = batches(0.0), batches(1.0), batches(1.0)
    changed = 0
    for one, other, same in zip(clean, bad, again, strict=True):
        np.testing.assert_array_equal(one.source.landmarks, other.source.landmarks)
        np.testing.assert_array_equal(other.source.image, same.source.image)
        np.testing.assert_array_equal(other.target.image, same.target.image)
        grey = [
            np.ptp(frame.image.astype(int), axis=-1).max(axis=(1, 2)) < 12 for frame in (other.source, other.target)
        ]
        np.testing.assert_array_equal(*grey)
        changed += int((one.source.image != other.source.image).any(axis=(1, 2, 3)).sum())
    assert changed == 24  # every pair of every batch
