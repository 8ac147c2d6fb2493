import cv2
import numpy as np
import pytest

from sheap_jax.files.pictures import GAP, grid, normal_colors, overlay, save_picture, shade

FACING = np.array([0.0, 0.0, -1.0])


def test_normal_colors_name_the_directions():
    normal = np.array([[[1.0, 0, 0], [0, -2.0, 0], [0, 0, -0.1], [0, 0, -1]]])
    mask = np.array([[True, True, True, False]])
    expected = [[[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1], [0, 0, 0]]]
    np.testing.assert_allclose(normal_colors(normal, mask), expected, atol=1e-9)


def test_shading_is_brightest_towards_the_lamp_and_finite_without_a_normal():
    colors = shade(np.stack([FACING, -FACING, np.zeros(3)]))
    assert colors[0].sum() > colors[1].sum() > 0
    np.testing.assert_allclose(colors[1], colors[2])


def test_overlay_changes_only_the_mesh_and_keeps_batches():
    image = np.full((2, 4, 5, 3), 0.2)
    mask = np.zeros((2, 4, 5), bool)
    mask[1, 2, 3] = True
    normal = np.broadcast_to(FACING, image.shape)
    result = overlay(image, normal, mask, opacity=0.5)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    np.testing.assert_allclose(result[1, 2, 3], 0.1 + 0.5 * shade(FACING))


def test_grid_places_images_row_by_row():
    dark, light, over = np.zeros((3, 4, 3)), np.full((3, 4, 3), 0.5), np.full((3, 4, 3), 7.0)
    picture = grid([[dark, light], [over]])
    assert picture.dtype == np.uint8
    assert picture.shape == (6 + GAP, 8 + GAP, 3)
    assert (picture[:3, :4] == 0).all()
    assert (picture[:3, 4 + GAP :] == 128).all()
    assert (picture[3 + GAP :, :] == 255).all()


def test_captions_stand_above_the_columns_and_inside_them():
    image = np.zeros((8, 60, 3))
    picture = grid([[image, image], [image, image]], captions=["source", "a caption that is too long for it"])
    height = picture.shape[0] - (16 + GAP)
    strip = picture[:height].min(axis=-1) < 128
    np.testing.assert_array_equal(picture[height:], grid([[image, image], [image, image]]))
    assert height >= 8
    assert strip[:, :60].any()
    assert strip[:, 60 + GAP :].any()
    assert not strip[:, 60 : 60 + GAP].any()
    assert not strip[:, -GAP:].any()


def test_grids_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 3\).*\(3, 3, 3\)"):
        grid([[np.zeros((2, 2, 3)), np.zeros((3, 3, 3))]])
    with pytest.raises(ValueError, match="none at all"):
        grid([])


def test_a_picture_comes_back_and_an_impossible_path_is_an_error(tmp_path):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    save_picture(picture, tmp_path / "deep" / "picture.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "deep/picture.png"))[..., ::-1], picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_picture(picture, tmp_path / "file" / "picture.png")
