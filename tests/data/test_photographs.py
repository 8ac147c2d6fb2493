"""Photographs as people have them: turned, grey, transparent, deep, damaged."""

import numpy as np
import pytest
from PIL import Image

from sheap_jax.data.photographs import read_photograph

PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [200, 210, 220]]], np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("transparent", [False, True])
def test_exif_turns_the_picture_upright(tmp_path, suffix, transparent):
    if transparent and suffix == "jpg":
        pytest.skip("JPEG has no transparency")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left side is up
    big = np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))
    stored = np.dstack([big, np.full(big.shape[:2], 255, np.uint8)]) if transparent else big
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    options |= {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(tmp_path / f"turned.{suffix}", exif=exif, **options)
    found = read_photograph(tmp_path / f"turned.{suffix}")
    assert found.shape == (48, 32, 3)
    np.testing.assert_allclose(found[8::16, 8::16], np.rot90(PIXELS, -1), atol=3)


def test_a_mirrored_picture_is_mirrored_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 2
    Image.fromarray(PIXELS).save(tmp_path / "mirror.png", exif=exif)
    np.testing.assert_array_equal(read_photograph(tmp_path / "mirror.png"), PIXELS[:, ::-1])


def test_grey_becomes_rgb(tmp_path):
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_what_is_transparent_is_black(tmp_path, alpha):
    Image.fromarray(np.dstack([PIXELS, np.full((2, 3), alpha, np.uint8)])).save(tmp_path / "rgba.png")
    found = read_photograph(tmp_path / "rgba.png")
    np.testing.assert_allclose(found, PIXELS * (alpha / 255), atol=0.51)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparent_parts_are_black_in_every_format(tmp_path, suffix):
    alpha = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / f"rgba.{suffix}", **options)
    found = read_photograph(tmp_path / f"rgba.{suffix}")
    np.testing.assert_array_equal(found, PIXELS * (alpha == 255)[..., None])


def test_transparent_palettes_and_color_keys(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 210, 220, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=bytes([255, 0, 128]))
    expected = [[(10, 20, 30), (0, 0, 0)], [(128, 0, 0), (0, 0, 0)]]
    np.testing.assert_array_equal(read_photograph(tmp_path / "palette.png"), expected)
    Image.fromarray(PIXELS).save(tmp_path / "key.png", transparency=(40, 50, 60))
    found = read_photograph(tmp_path / "key.png")
    np.testing.assert_array_equal(found[1, 1], 0)
    np.testing.assert_array_equal(found[0], PIXELS[0])
    grey = np.array([[100, 200]], np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png", transparency=200 * 257)
    np.testing.assert_array_equal(read_photograph(tmp_path / "deep.png")[..., 0], [[100, 0]])


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_colors_of_print_become_rgb(tmp_path, suffix):
    big = np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))
    Image.fromarray(big).convert("CMYK").save(tmp_path / f"print.{suffix}", quality=100)
    np.testing.assert_allclose(read_photograph(tmp_path / f"print.{suffix}")[8::16, 8::16], PIXELS, atol=3)


def test_the_picture_before_its_previews(tmp_path):
    big = Image.fromarray(np.kron(PIXELS, np.ones((16, 16, 1), np.uint8)))
    preview = big.rotate(180)
    preview.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: a smaller version
    for name, form in (("scan.tif", "TIFF"), ("phone.jpg", "MPO")):
        big.save(tmp_path / name, form, save_all=True, append_images=[preview], quality=100)
        assert Image.open(tmp_path / name).n_frames == 2
        np.testing.assert_allclose(read_photograph(tmp_path / name)[8::16, 8::16], PIXELS, atol=20)


def test_pages_are_refused_by_their_number(tmp_path):
    first = Image.fromarray(PIXELS)
    first.save(tmp_path / "fax.tif", save_all=True, append_images=[first.rotate(180), first])
    with pytest.raises(ValueError, match=r"fax\.tif has 3 pages: save each as a picture of its own"):
        read_photograph(tmp_path / "fax.tif")


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_animations_are_refused_by_name(tmp_path, suffix):
    first = Image.fromarray(PIXELS)
    first.save(tmp_path / f"moving.{suffix}", save_all=True, append_images=[first.rotate(180)])
    with pytest.raises(ValueError, match=rf"moving\.{suffix} is an animation: convert it to a video"):
        read_photograph(tmp_path / f"moving.{suffix}")


def test_numbers_that_are_no_colors_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(ValueError, match=r"depth\.tif has pixels of mode F: save it with 8 or 16 bits"):
        read_photograph(tmp_path / "depth.tif")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "it is empty"), (b"\0\0\0\x18ftypheic" + bytes(80), "it is HEIC")]
)
def test_what_phones_and_broken_copies_leave_is_named(tmp_path, content, words):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg is no picture.*: {words}"):
        read_photograph(tmp_path / "a.jpg")


def test_trials(shared_trials):
    turned, straight = (read_photograph(shared_trials / f"rotated_{mode}.png") for mode in ("rgba", "rgb"))
    np.testing.assert_array_equal(turned, straight)
    for name in ("palette.png", "rgb_trns.png", "transparent.webp"):
        assert (read_photograph(shared_trials / name) == 0).any(), name


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
