from types import SimpleNamespace

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.data.prepare.landmarks import MOST_FACES
from sheap_jax.inference import avatar, avatar_renderer, crops
from sheap_jax.inference.avatar import load_avatar, load_model_of, rig_surfels, save_avatar
from sheap_jax.inference.avatar_renderer import AvatarRenderer
from sheap_jax.method import reanimation
from tests.data.tiny_videos import face_points
from tests.inference.tiny_avatar import tiny_avatar, tiny_predictor


@pytest.mark.slow
def test_a_saved_avatar_shows_what_the_run_renders(tmp_path):
    """The run's own re-animation of a photo by itself, and the avatar file in the photo's pose."""
    predictor = tiny_predictor()
    image = np.random.default_rng(2).uniform(size=(32, 32, 3)).astype(np.float32)
    expected = predictor.reanimate(image[None], image[None])[0]
    save_avatar(rig_surfels(predictor, jnp.asarray(image)), tmp_path / "a.npz")
    rigged = load_avatar(tmp_path / "a.npz")
    assert len(rigged.parent_face) == int(predictor.parts().learned.prototypes.active.sum())
    background = tuple(map(float, reanimation.border_color(image[None])[0]))
    picture = AvatarRenderer(rigged, load_model_of(rigged), size=32, background=background)(rigged.head)
    np.testing.assert_allclose(picture, expected, atol=2e-3)
    assert expected.std() > 0.02, "nothing to see: the comparison would say nothing"


def test_a_picture_without_room_is_rendered_again(monkeypatch):
    def render(*arguments, size: int, room: int) -> SimpleNamespace:
        asked.append(room)
        return SimpleNamespace(color=np.full((1, size, size, 3), 0.5), overflow=np.array([max(0, 300_000 - room)]))

    asked = []
    monkeypatch.setattr(avatar_renderer, "_render", render)
    draw = AvatarRenderer(tiny_avatar(), tiny_predictor().model, size=4)
    for _ in range(2):
        assert draw(tiny_avatar().head).shape == (4, 4, 3)
    assert asked == [avatar_renderer.FIRST_ROOM, 1 << 19, 1 << 19], "the room that was found stays"


def test_an_avatar_keeps_its_shape_when_driven():
    rigged = tiny_avatar()
    render = AvatarRenderer(rigged, load_model_of(rigged), size=32)
    driving = rigged.head._replace(shape=jnp.full(3, 2.0))
    np.testing.assert_array_equal(render(driving), render(rigged.head))


def test_the_command_is_told_where_the_face_is(tmp_path, monkeypatch, capsys):
    """By a box of a detector, as for predict.py; without any such option, a photograph is not taken for a crop."""
    monkeypatch.setattr(avatar.Predictor, "from_checkpoint", lambda directory: tiny_predictor())
    image = np.random.default_rng(5).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "crop.png"), image[10:50, 20:60])
    half = 20 / 1.75  # of the box whose crop that is
    (tmp_path / "boxes.csv").write_text(
        f"file,left,top,right,bottom\na.png,{40 - half},{30 - half},{40 + half},{30 + half}\n"
    )
    outputs = [str(tmp_path / name) for name in ("box.npz", "crop.npz")]
    avatar.main(["RUN", str(tmp_path / "a.png"), outputs[0], "--boxes", str(tmp_path / "boxes.csv")])
    avatar.main(["RUN", str(tmp_path / "crop.png"), outputs[1], "--cropped"])
    by_box, by_crop = map(load_avatar, outputs)
    np.testing.assert_allclose(by_box.local.albedo, by_crop.local.albedo, atol=1e-3)
    with pytest.raises(SystemExit):
        avatar.main(["RUN", str(tmp_path / "a.png"), outputs[0]])
    assert "--face-landmarker" in capsys.readouterr().err


@pytest.mark.parametrize("larger", [0, 1])
@pytest.mark.parametrize("option", ["--boxes", "--landmarks"])
def test_of_two_faces_the_larger_is_taken_and_said(tmp_path, monkeypatch, capsys, option, larger):
    """Whichever is listed first. The left half of the photograph is dark, the right one light."""
    monkeypatch.setattr(avatar.Predictor, "from_checkpoint", lambda directory: tiny_predictor())
    seen = []
    monkeypatch.setattr(avatar, "rig_surfels", lambda predictor, image: seen.append(np.asarray(image)) or tiny_avatar())
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat([51, 204], 100).astype(np.uint8) * np.ones((100, 1), np.uint8))
    middles, halves = (50, 150), (20, 12) if larger == 0 else (12, 20)
    faces = list(zip(middles, halves, strict=True))
    if option == "--boxes":
        rows = [f"a.png,{x - half},{50 - half},{x + half},{50 + half}" for x, half in faces]
        (tmp_path / "faces").write_text("\n".join(["file,left,top,right,bottom", *rows]))
    else:
        points = np.array([(face_points() - 70) * half / 25 + (x, 50) for x, half in faces])
        with (tmp_path / "faces").open("wb") as file:
            np.savez(file, sets=["one"], one_files=["a.png"], one_lmk68=points[None])
    command = ["RUN", str(tmp_path / "a.png"), str(tmp_path / "a.npz")]
    avatar.main([*command, option, str(tmp_path / "faces")])
    said = capsys.readouterr().out
    assert "a.png: 2 faces found, the largest is taken: " in said
    assert f"the centre ({middles[larger]}, " in said
    np.testing.assert_allclose(seen.pop(), (0.2, 0.8)[larger], atol=1e-6)
    avatar.main([*command, "--cropped"])
    assert "faces found" not in capsys.readouterr().out


def test_mediapipe_is_asked_for_all_faces(tmp_path, monkeypatch):
    """For fewer it would give the surest ones, and nobody would know of the others."""
    monkeypatch.setattr(avatar.Predictor, "from_checkpoint", lambda directory: tiny_predictor())
    asked = {}

    def landmarker(model, *, max_faces):
        asked["faces"] = max_faces
        raise ValueError("seen")

    monkeypatch.setattr(crops, "FaceLandmarker", landmarker)
    with pytest.raises(ValueError, match="seen"):
        avatar.main(["RUN", "a.png", str(tmp_path / "a.npz"), "--face-landmarker", "model.task"])
    assert asked == {"faces": MOST_FACES}


def test_a_video_is_no_photograph(tmp_path):
    (tmp_path / "square.mp4").touch()
    with pytest.raises(ValueError, match=r"square\.mp4 is a video, wanted is a photograph: save one frame"):
        avatar.main(["RUN", str(tmp_path / "square.mp4"), str(tmp_path / "a.npz"), "--cropped"])


def test_files_that_are_no_avatar_are_named(tmp_path):
    (tmp_path / "text.npz").write_text("no avatar")
    np.savez(tmp_path / "other.npz", parent_face=np.zeros(3))
    np.savez(tmp_path / "half.npz", format_version=1, offset=np.zeros((3, 3)))
    np.savez(tmp_path / "odd.npz", format_version=1, parent_face=np.zeros((3, 3)))
    np.savez(tmp_path / "list.npz", format_version=[1, 1])
    reasons = {"text": "is a text file", "other": "no avatar of format 1", "half": "lacks"}
    reasons |= {"odd": "parent_face has shape", "list": "no avatar of format 1"}
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=f"{name}.npz.*{reason}"):
            load_avatar(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        load_avatar(tmp_path / "missing.npz")


def test_another_morphable_model_is_refused():
    with pytest.raises(ValueError, match="embedded-coarse does not fit"):
        load_model_of(tiny_avatar(), "embedded:coarse")
