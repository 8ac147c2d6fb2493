"""The official release from its file to params.npz, with a stand-in of its outputs and a FLAME of an octahedron."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the release is a trace that only torch can read")

from sheap_jax import Predictor  # noqa: E402
from sheap_jax.commands import eval as eval_command  # noqa: E402
from sheap_jax.commands import predict as predict_command  # noqa: E402
from sheap_jax.config import Config, Log  # noqa: E402
from sheap_jax.data.prepare.decoding import VideoDecoder  # noqa: E402
from sheap_jax.files.mesh_files import read_mesh  # noqa: E402
from sheap_jax.inference import avatar as avatar_command  # noqa: E402
from sheap_jax.inference.export import export_predictor  # noqa: E402
from sheap_jax.inference.outputs import WRITERS  # noqa: E402
from sheap_jax.inference.video_files import VideoFile  # noqa: E402
from sheap_jax.models import official  # noqa: E402
from sheap_jax.models.convert import __main__ as convert_command  # noqa: E402
from sheap_jax.morphable import forward  # noqa: E402
from sheap_jax.morphable.embedded.head import embedded_head  # noqa: E402
from sheap_jax.morphable.storage import load_model, save_model  # noqa: E402
from sheap_jax.training import run_directory  # noqa: E402
from sheap_jax.training.checkpoint import CheckpointError  # noqa: E402
from tests.data.official_crops import face, face_of_crop, official_corners  # noqa: E402
from tests.data.tiny_videos import write_landmarks  # noqa: E402
from tests.inference.fake_predictor import write_photograph_landmarks  # noqa: E402
from tests.models.traced import standins  # noqa: E402
from tests.models.traced.tiny_release import (  # noqa: E402
    conversion,
    posed_vertices,
    release_outputs,
    write_flame,
    write_release,
)
from tests.refusal import refusal  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"))


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def test_params_are_the_releases_outputs(release, tmp_path):
    images = pictures(2)
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
    arguments = [str(tmp_path), "--checkpoint", str(release / "run"), "--output", str(tmp_path / "out"), "--cropped"]
    predict_command.main([*arguments, "--save", "params,obj,overlay,landmarks,camera"])
    expected = release_outputs(release / "model.pt", images)
    for number in range(2):
        saved = np.load(tmp_path / f"out/{number}/params.npz")
        for name in standins.OFFICIAL:
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(saved[name][0] / scale, expected[name][number] / scale, atol=2e-4, err_msg=name)
        np.testing.assert_array_equal(saved["rotations"][0, 3], saved["eye_l_pose"][0])
        assert (tmp_path / f"out/{number}/head_0.obj").exists()


def test_crops_are_the_releases(release, tmp_path):
    """In a portrait, at its left border; the camera and the overlay know of the stretch."""
    width, height = 300, 400
    cv2.imwrite(str(tmp_path / "portrait.png"), cv2.resize(pictures(1)[0], (width, height)))
    landmarks = face(width, height, where=(0.2, 0.5))
    write_photograph_landmarks(tmp_path / "points.npz", {"portrait.png": landmarks})
    arguments = [str(tmp_path / "portrait.png"), "--checkpoint", str(release / "run"), "--output", str(tmp_path)]
    predict_command.main([*arguments, "--landmarks", str(tmp_path / "points.npz"), "--save", "params,overlay"])
    saved = np.load(tmp_path / "portrait/params.npz")
    low, high = official_corners(landmarks, width, height)
    sides = saved["box_half"][:, None] * saved["box_stretch"]
    np.testing.assert_allclose(saved["box_center"] - sides, [low], atol=1e-6)
    np.testing.assert_allclose(saved["box_center"] + sides, [high], atol=1e-6)
    assert saved["camera"][0, 0, 0] / -saved["camera"][0, 1, 1] == pytest.approx(sides[0, 0] / sides[0, 1], rel=1e-6)
    assert sides[0, 0] < 0.95 * sides[0, 1]
    assert (tmp_path / "portrait/overlay.png").exists()


def test_vertices_are_those_of_the_releases_own_layer(release):
    predictor = Predictor.from_checkpoint(release / "run")
    images = pictures(1)
    vertices = np.asarray(forward(predictor.model, predictor(images / np.float32(255))))
    (expected,) = posed_vertices(release_outputs(release / "model.pt", images), predictor.model)
    np.testing.assert_allclose(vertices[0], expected, atol=2e-5)


@pytest.fixture(scope="module")
def portrait(release, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """All that predict.py saves of a portrait video whose crops are pixels of it, and what torch finds in these."""
    folder, source, (left, top) = tmp_path_factory.mktemp("video"), "portrait.mp4", (38, 88)
    with VideoFile(folder / source) as video:
        for number, picture in enumerate(pictures(3)[:, :10, :8]):
            video.write(cv2.resize(picture // (1 + number), (300, 400)), until=(number + 1) / 25)
    landmarks = face_of_crop(left, top, 224, width=300, height=400)
    write_landmarks(folder / "points.npz", {source: np.repeat(landmarks[None], 3, axis=0)})
    arguments = [str(folder / source), "--checkpoint", str(release / "run"), "--output", str(folder)]
    arguments += ["--landmarks", str(folder / "points.npz"), "--one-identity"]
    arguments += ["--smooth", "--min-cutoff", "1e9"]  # lets all motion pass
    predict_command.main([*arguments, "--save", ",".join(kind for kind in WRITERS if kind != "arkit")])
    frames = np.stack([frame.image() for frame in VideoDecoder(folder / source)])
    crops = np.ascontiguousarray(frames[:, top : top + 224, left : left + 224])
    return folder / "portrait", release_outputs(release / "model.pt", crops)


def test_params_of_a_video(portrait):
    """Eyelids, neck, eyes and translation in every frame, and one identity."""
    folder, expected = portrait
    saved = np.load(folder / "params.npz")
    for name in standins.OFFICIAL.keys() - {"shape_from_facenet"}:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(saved[name] / scale, expected[name] / scale, atol=2e-4, err_msg=name)
        changes = np.abs(np.diff(expected[name], axis=0)).max(axis=1)
        assert changes.min() > 2e-3 * scale, "frames alike: the comparison would say little"
    shape = saved["shape_from_facenet"]
    np.testing.assert_array_equal(shape, shape[[0, 0, 0]])
    away = shape - expected["shape_from_facenet"]  # at the geometric median the directions cancel
    assert np.linalg.norm((away / np.linalg.norm(away, axis=1, keepdims=True)).sum(axis=0)) < 0.1


def test_meshes_cameras_and_pictures_of_a_video(release, portrait):
    folder, expected = portrait
    shape = np.load(folder / "params.npz")["shape"]
    posed = posed_vertices(expected | {"shape_from_facenet": shape}, load_model(release / "flame.npz"))
    cameras = json.loads((folder / "camera.json").read_text())["faces"]
    for number, vertices in enumerate(posed):
        mesh = read_mesh(folder / f"head_0_{number:06d}.obj")
        np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-4)
        x, y, z = vertices.T  # seen by the release's camera in the crop, whose corner is (38, 88)
        in_picture = 3.9989 * 224 * np.stack([x, -y]) / (1 - z) + 112 + np.array([[38], [88]])
        projected = np.array(cameras[number]["P"]) @ np.stack([x, y, z, np.ones_like(x)])
        np.testing.assert_allclose(projected[:2] / projected[2], in_picture, atol=0.02)
    for name, width in (("overlay", 300), ("side_by_side", 600)):
        shown = [frame.image().shape for frame in VideoDecoder(folder / f"{name}.mp4")]
        assert shown == [(400, width, 3)] * 3
    assert len(list(folder.iterdir())) == 5 + 3 * 3


def test_no_torch_is_needed_afterwards(release):
    code = (
        "import sys, numpy as np; sys.modules['torch'] = None; from sheap_jax import Predictor; "
        f"p = Predictor.from_checkpoint({str(release / 'run')!r}); "
        "print(p(np.zeros((2, 224, 224, 3), np.float32)).shape.shape, p.config.image_size)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(2, 300) 224"


def test_what_the_release_cannot_do_is_one_line(release):
    predictor = Predictor.from_checkpoint(release / "run")
    images = np.zeros((1, 224, 224, 3), np.float32)
    for ask in (
        lambda: predictor.reanimate(images, images),
        lambda: avatar_command.rig_surfels(predictor, images[0]),
        lambda: export_predictor(predictor),
    ):
        with pytest.raises(ValueError, match="holds the official release, which predicts heads"):
            ask()
    with pytest.raises(ValueError, match="holds the official release"):  # before the picture is looked for
        avatar_command.main([str(release / "run"), "none.png", str(release / "a.npz"), "--cropped"])
    with pytest.raises(ValueError, match="the benchmark embedded is for runs"):
        eval_command.evaluate(release / "run")
    with pytest.raises(CheckpointError, match="no step 3"):
        Predictor.from_checkpoint(release / "run", step=3)
    config = Config("run", log=Log(directory=str(release / "run")))
    with (
        pytest.raises(ValueError, match="holds the official release, which is not trained"),
        run_directory.claim(config),
    ):
        pass


def test_unused_outputs_are_named(release, tmp_path, capsys):
    convert_command.main(conversion(release / "model.pt", tmp_path / "run", write_flame(tmp_path, eyelids=False)))
    printed = capsys.readouterr().out
    for line in ("unused: output uncertainty", "unused: output blendshapes", "unused: output eyelids (convert FLAME"):
        assert line in printed
    assert "largest difference to torch" in printed


def test_refused_before_anything_is_written(release, tmp_path, capsys):
    good = release / "flame.npz"
    save_model(embedded_head(), tmp_path / "embedded.npz")
    (tmp_path / "small").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    few = {name: size for name, size in standins.OFFICIAL.items() if name not in ("eyelids", "jaw_pose")}
    standins.traced(standins.Network(sizes=few), tmp_path / "few.pt")
    standins.traced(standins.Network(sizes=standins.OFFICIAL | {"expr": 50}), tmp_path / "other.pt")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html></html>")
    cases = [
        (release / "none.pt", tmp_path / "run", good, "none.pt does not exist. Fetch it from its owner"),
        (tmp_path / "page.pt", tmp_path / "run", good, "page.pt is a web page"),
        (release / "flame.npz", tmp_path / "run", good, "is no TorchScript archive"),
        (tmp_path / "few.pt", tmp_path / "run", good, "it has no output eyelids, jaw_pose"),
        (tmp_path / "other.pt", tmp_path / "run", good, "its output expr has (50,) numbers"),
        (release / "model.pt", tmp_path / "run", tmp_path / "embedded.npz", "predicts parameters of FLAME 2020"),
        (release / "model.pt", tmp_path / "run", write_flame(tmp_path / "small", identity=200), "has 200 identity"),
        (release / "model.pt", tmp_path / "run", tmp_path / "no.npz", "no.npz does not exist"),
        (release / "model.pt", tmp_path / "full", good, "holds other things (config.json)"),
        (release / "model.pt", tmp_path / "file", good, "is a file"),
    ]
    for source, output, morphable, message in cases:
        assert message in refusal(convert_command, conversion(source, output, morphable), capsys)
        assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit, match="2"):
        convert_command.main(["official", str(release / "model.pt"), str(tmp_path / "run")])
    assert "--morphable" in capsys.readouterr().err


def test_a_missing_flame_or_damaged_file_is_said(release, tmp_path):
    whole = (release / "run/official.npz").read_bytes()
    (tmp_path / "official.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"official\.npz is damaged"):
        Predictor.from_checkpoint(tmp_path)
    stored = official.load_release(release / "run")
    official.save_release(tmp_path, stored._replace(morphable=str(tmp_path / "gone.npz")))
    with pytest.raises(FileNotFoundError, match=r"gone\.npz does not exist"):
        Predictor.from_checkpoint(tmp_path)
    official.save_release(tmp_path, stored._replace(framing="oval"))
    with pytest.raises(ValueError, match="does not say its framing"):
        Predictor.from_checkpoint(tmp_path)
