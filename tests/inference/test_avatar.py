import jax.numpy as jnp
import numpy as np
import pytest
import tileraster

from sheap_jax import geometry, reanimation
from sheap_jax.inference import avatar_renderer
from sheap_jax.inference.avatar import load_avatar, load_model_of, pose_surfels, rig_surfels, save_avatar
from sheap_jax.inference.avatar_renderer import AvatarRenderer
from tests.inference.tiny_avatar import tiny_avatar, tiny_predictor


def test_a_saved_avatar_shows_what_the_run_renders(tmp_path):
    """The run's own re-animation of a photo by itself, and the avatar file in the photo's pose."""
    predictor = tiny_predictor()
    image = np.random.default_rng(2).uniform(size=(32, 32, 3)).astype(np.float32)
    expected = predictor.reanimate(image[None], image[None])[0]
    save_avatar(rig_surfels(predictor, jnp.asarray(image)), tmp_path / "a.npz")
    rigged = load_avatar(tmp_path / "a.npz")
    assert len(rigged.parent_face) == int(predictor.state.prototypes.active.sum())
    background = tuple(map(float, reanimation.border_color(image[None])[0]))
    picture = AvatarRenderer(rigged, load_model_of(rigged), size=32, background=background)(rigged.head)
    np.testing.assert_allclose(picture, expected, atol=1e-4)
    assert expected.std() > 0.02, "nothing to see: the comparison would say nothing"


def test_no_surfel_is_lost_for_lack_of_room(tmp_path, monkeypatch):
    """Surfels that cover many tiles, beside a rasteriser that takes every one at every pixel."""
    monkeypatch.setattr(avatar_renderer, "FIRST_ROOM", 256)
    rigged = tiny_avatar(tmp_path)
    model, size = load_model_of(rigged), 32
    head = rigged.head._replace(rotations=rigged.head.rotations.at[0, 1].set(0.4))
    posed = pose_surfels(rigged, model, head)
    expected = tileraster.rasterize_surfels(
        posed.surfels.means,
        posed.surfels.quats,
        posed.surfels.scales[:, :2],
        posed.surfels.opacities,
        posed.colors,
        *geometry.official_camera(size),
        width=size,
        height=size,
        background=jnp.ones(3),
        implementation="reference",
    )
    picture = AvatarRenderer(rigged, model, size=size)(head)
    np.testing.assert_allclose(picture, np.clip(expected.color, 0, 1), atol=2e-3)


def test_an_avatar_keeps_its_shape_when_driven(tmp_path):
    rigged = tiny_avatar(tmp_path)
    render = AvatarRenderer(rigged, load_model_of(rigged), size=32)
    driving = rigged.head._replace(shape=jnp.full(3, 2.0))
    np.testing.assert_array_equal(render(driving), render(rigged.head))


def test_files_that_are_no_avatar_are_named(tmp_path):
    (tmp_path / "text.npz").write_text("no avatar")
    np.savez(tmp_path / "other.npz", parent_face=np.zeros(3))
    np.savez(tmp_path / "half.npz", format_version=1, offset=np.zeros((3, 3)))
    for name, reason in {"text": "damaged", "other": "no avatar of format 1", "half": "lacks"}.items():
        with pytest.raises(ValueError, match=f"{name}.npz.*{reason}"):
            load_avatar(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        load_avatar(tmp_path / "missing.npz")


def test_another_morphable_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="embedded-coarse does not fit"):
        load_model_of(tiny_avatar(tmp_path), "embedded:coarse")
