"""The script of the documents' pictures, at toy size."""

import numpy as np
import pytest

from tests.inference.tiny_avatar import tiny_predictor


@pytest.fixture
def pictures(load):
    pytest.importorskip("skimage", reason="one of the portraits is scikit-image's")
    return load("pictures")


def test_people_stand_beside_what_is_true(pictures, tmp_path):
    picture = pictures.people_picture(tiny_predictor(), tmp_path / "shards", size=32, people=2)
    assert picture.shape[1] == 5 * 32 + 4 * 2
    rows = picture[-(2 * 32 + 2) :]  # below the captions
    photograph, over, alone, true, moved = (rows[:32, 34 * i : 34 * i + 32].astype(float) for i in range(5))
    assert np.abs(photograph - over).mean() > 1, "no mesh over the photograph"
    assert (alone.min(axis=2) < 255).mean() > 0.1, "no head"
    assert (true.min(axis=2) < 255).mean() > 0.1, "no true head"
    assert moved.std() > 1, "nothing drawn"
    assert (tmp_path / "shards/samples.png").exists()


def test_portraits_are_framed_on_their_faces(pictures):
    picture = pictures.portraits_picture(tiny_predictor(), size=32)
    assert picture.shape == (32, 6 * 32 + 5 * 2, 3)
    for left in (0, 3 * 34):
        red, _, blue = picture[10:24, left + 10 : left + 22].reshape(-1, 3).mean(axis=0)
        assert red > blue + 15, "the middle is no skin"


def test_surfels_are_fitted_to_the_photograph(pictures):
    def error(steps):
        picture = pictures.surfels_picture(side=32, count=60, steps=steps).astype(float)
        return np.abs(picture[:, :32] - picture[:, 34:66]).mean()

    assert error(6) < error(0)
