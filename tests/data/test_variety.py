"""People of a wilder kind: what they wear, and that the studio's pictures stay what they are."""

import dataclasses

import numpy as np
import pytest

from sheap_jax.config import EmbeddedData
from sheap_jax.config_files import ConfigError
from sheap_jax.data.embedded.accessories import Accessories, Glasses, Hat, draw_accessories, put_on
from sheap_jax.data.embedded.dataset import generator_settings
from sheap_jax.data.embedded.motion import draw_motion
from sheap_jax.data.embedded.people import load_people
from sheap_jax.data.embedded.settings import check_embedded
from sheap_jax.data.embedded.skin import _cover
from sheap_jax.data.embedded.variety import VARIETIES
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable.model import landmarks

SIZE = 96


@pytest.fixture(scope="module")
def model():
    return load_people("embedded:coarse")


@pytest.fixture(scope="module")
def points(model) -> np.ndarray:
    """Landmarks of the mean head in the picture."""
    seen = landmarks(model, model.template, np.zeros((len(model.parents), 3), np.float32))
    return np.asarray(project(seen, official_camera(SIZE)))


def changed(points, worn: Accessories, *, seed: int = 0) -> np.ndarray:
    before = np.full((SIZE, SIZE, 3), 0.5)
    return np.abs(put_on(before, points, worn, np.random.default_rng(seed)) - before).max(axis=-1) > 0.05


def test_glasses_lie_round_the_eyes_and_a_hat_above_the_brows(points):
    rng = np.random.default_rng(1)
    wild = VARIETIES["wild"]
    glasses = draw_accessories(rng, wild._replace(glasses=1.0, hat=0.0, occluder=0.0))
    hat = draw_accessories(rng, wild._replace(glasses=0.0, hat=1.0, occluder=0.0))
    assert isinstance(glasses.glasses, Glasses)
    assert isinstance(hat.hat, Hat)
    rows, columns = np.nonzero(changed(points, glasses))
    assert abs(rows.mean() - points[36:48, 1].mean()) < 4
    assert columns.min() < points[36, 0]
    assert columns.max() > points[45, 0]
    assert rows.max() < points[48:, 1].min()  # the mouth is free
    rows, _ = np.nonzero(changed(points, hat))
    assert len(rows) > 100
    assert rows.max() < points[36:48, 1].max()


def test_a_studio_has_no_accessories(points):
    for seed in range(50):
        worn = draw_accessories(np.random.default_rng(seed), VARIETIES["portrait"])
        assert worn == Accessories(None, None, 0.0)
    assert not changed(points, worn).any()


def test_an_occluder_hides_part_of_a_face(points):
    hidden = [changed(points, Accessories(None, None, 1.0), seed=seed).mean() for seed in range(5)]
    assert all(0.002 < share < 0.5 for share in hidden)


def test_wild_heads_turn_further_and_open_their_mouths_wider(model):
    def spread(name: str) -> np.ndarray:
        drawn = [draw_motion(np.random.default_rng(seed), model, 3, VARIETIES[name]) for seed in range(60)]
        turns = np.concatenate([np.asarray(motion.rotations).sum(axis=1)[:, 1] for motion in drawn])
        smile = model.expression_names.index("smile")
        jaw = model.joint_names.index("jaw")
        return np.array(
            [
                np.abs(turns).max(),
                max(float(motion.rotations[:, jaw, 0].max()) for motion in drawn),
                max(float(motion.expression[:, smile].max()) for motion in drawn),
            ]
        )

    studio, wild = spread("portrait"), spread("wild")
    assert (wild > 1.2 * studio).all()


def test_the_studio_is_the_default_and_keeps_the_name_of_its_data():
    """Data sets of older versions lack the setting, and are still found."""
    assert "variety" not in generator_settings(EmbeddedData())
    assert generator_settings(EmbeddedData(variety="wild"))["variety"] == "wild"
    with pytest.raises(ConfigError, match="variety is 'tame', it must be one of portrait, wild"):
        check_embedded(dataclasses.replace(EmbeddedData(), variety="tame"))


def test_paint_that_differs_from_texel_to_texel_covers_a_part():
    """A beard's colours lie on the whole chart, its mask need not."""
    color, paint = np.zeros((6, 8, 3), np.float32), np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)
    mask = np.zeros((6, 8), np.float32)
    mask[2:5, 1:7] = 1.0
    _cover(color, mask, paint)
    np.testing.assert_allclose(color, mask[..., None] * paint)
