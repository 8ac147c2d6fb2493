"""Photographs as people have them: turned, grey, transparent, deep, damaged."""

import numpy as np
import pytest
from PIL import Image

from sheap_jax.data.photographs import read_photograph

PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [200, 210, 220]]], np.uint8)


def test_exif_turns_the_picture_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left side is up
    big = np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))
    Image.fromarray(big).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    found = read_photograph(tmp_path / "turned.jpg")
    assert found.shape == (48, 32, 3)
    np.testing.assert_allclose(found[8::16, 8::16], np.rot90(PIXELS, -1), atol=3)


def test_grey_becomes_rgb(tmp_path):
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_what_is_transparent_is_black(tmp_path, alpha):
    Image.fromarray(np.dstack([PIXELS, np.full((2, 3), alpha, np.uint8)])).save(tmp_path / "rgba.png")
    found = read_photograph(tmp_path / "rgba.png")
    np.testing.assert_allclose(found, PIXELS * (alpha / 255), atol=0.51)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    deep = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    found = read_photograph(tmp_path / f"deep.{suffix}")
    np.testing.assert_allclose(found[..., 1], [[0, 100], [200, 255]], atol=1)


def test_16_bits_with_alpha(tmp_path):
    import cv2

    deep = np.dstack([PIXELS[..., ::-1], np.full((2, 3), 255)]).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(read_photograph(tmp_path / "deep.png"), PIXELS)


def damaged(folder):
    Image.fromarray(np.kron(PIXELS, np.ones((32, 32, 1), np.uint8))).save(folder / "whole.jpg")
    return (folder / "whole.jpg").read_bytes()[:-300]


@pytest.mark.parametrize("content", [b"", b"a letter, not a picture", b"\xff\xd8\xff", damaged])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.jpg"
    path.write_bytes(content if isinstance(content, bytes) else content(tmp_path))
    with pytest.raises(ValueError, match=r"odd\.jpg is no picture"):
        read_photograph(path)


def test_a_missing_photograph_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png is missing"):
        read_photograph(tmp_path / "nothing.png")
