"""`sheap predict` as its user meets it: photographs and videos of every kind, in one folder."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from sheap_jax.commands import predict as command
from sheap_jax.cropping import crop_box
from sheap_jax.data.prepare.decoding import VideoDecoder
from sheap_jax.inference.outputs import WRITERS
from sheap_jax.training.checkpoint import CheckpointError
from tests.data.odd_videos import write_frames
from tests.data.tiny_videos import FRAMES, all_points, write_video
from tests.inference.fake_predictor import FakePredictor, scaled_points, write_face, write_photograph_landmarks

RED = (230, 20, 40)


@pytest.fixture
def predictor(monkeypatch):
    fake = FakePredictor()
    monkeypatch.setattr(command.Predictor, "from_checkpoint", lambda directory: fake)
    return fake


def run(inputs, output, *options: str) -> int:
    """The exit code."""
    try:
        command.main([*map(str, inputs), "--checkpoint", "run", "--output", str(output), *options])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_turned(path):
    """Stored lying on its side, with the EXIF note that says so."""
    write_face(path, RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.open(path).rotate(90, expand=True).save(path, exif=exif, quality=95)


def write_deep(path):
    write_face(path, RED)
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)


GOOD = {
    "plain.jpg": (1.0, lambda path: write_face(path, RED)),
    "turned.jpg": (1.0, write_turned),
    "grey.png": (1.0, lambda path: write_face(path, RED, mode="L")),
    "alpha.png": (1.0, lambda path: write_face(path, RED, mode="RGBA")),
    "deep.png": (1.0, write_deep),
    "large.jpg": (32.0, lambda path: write_face(path, RED, scale=32.0)),  # 20 megapixels
    "tiny.png": (0.2, lambda path: write_face(path, RED, scale=0.2)),  # 32 x 24
}


def test_every_kind_of_file(tmp_path, predictor, capsys):
    folder, output, points = tmp_path / "in", tmp_path / "out", {}
    for name, (scale, write) in GOOD.items():
        write(folder / name) if folder.exists() else (folder.mkdir(), write(folder / name))
        points[name] = scaled_points(scale)
    whole = (folder / "plain.jpg").read_bytes()
    bad = {"cut.jpg": whole[:-400], "letter.jpg": b"Dear Sir,", "empty.png": b"", "noise.mp4": b"no video" * 99}
    bad["hollow.mp4"] = write_video(tmp_path / "hollow.mp4", 0).read_bytes()  # a video of no frames
    for name, content in bad.items():
        (folder / name).write_bytes(content)
        points[name] = scaled_points()
    write_face(folder / "nobody.jpg", RED)
    write_face(folder / "unknown.jpg", RED)
    (folder / "notes.txt").write_text("not an input")
    write_photograph_landmarks(tmp_path / "points.npz", points)
    code = run([folder, tmp_path / "nowhere.jpg"], output, "--landmarks", str(tmp_path / "points.npz"))

    captured = capsys.readouterr()
    failed = [line for line in captured.err.replace("\r", "\n").splitlines() if line.startswith("failed:")]
    names = ["nowhere.jpg", *sorted([*bad, "nobody.jpg", "unknown.jpg"])]
    assert [line.split(":")[1].rsplit("/")[-1] for line in failed] == names
    assert code == 1
    assert "7 faces in 7 of 15 inputs" in captured.out
    assert sorted(path.name for path in output.iterdir()) == sorted(name.split(".")[0] for name in GOOD)
    for name, (scale, _) in GOOD.items():
        place = output / name.split(".")[0]
        assert sorted(file.name for file in place.iterdir()) == ["overlay.png", "params.npz"]
        found = np.load(place / "params.npz")
        expected = np.full(3, np.dot(RED, (0.299, 0.587, 0.114))) if name == "grey.png" else RED
        np.testing.assert_allclose(found["shape"][0] * 255, expected, atol=8)
        np.testing.assert_allclose(found["box_center"][0], crop_box(scaled_points(scale)).center)
        height, width = cv2.imread(str(place / "overlay.png")).shape[:2]
        assert (height, width) == tuple(found["picture_size"]) == (round(120 * scale), round(160 * scale))


def test_a_video_without_a_face_in_half_its_frames(tmp_path, predictor):
    write_video(tmp_path / "half.mp4")
    write_video(tmp_path / "broken.mp4")
    shutil.copy(tmp_path / "half.mp4", tmp_path / "faceless.mp4")
    data = (tmp_path / "broken.mp4").read_bytes()
    (tmp_path / "broken.mp4").write_bytes(data[: len(data) // 2])
    points = all_points()
    points[1::2] = np.nan
    sets = {"half": points, "faceless": points * np.nan, "broken": points}
    files = {f"{name}_files": [f"{name}.mp4"] for name in sets}
    np.savez(tmp_path / "points.npz", sets=list(sets), **files, **{f"{k}_lmk68": v for k, v in sets.items()})
    options = ["--landmarks", str(tmp_path / "points.npz"), "--save", "params,overlay,side-by-side"]
    code = run([f"{tmp_path}/*.mp4"], tmp_path / "out", *options, "--one-identity", "--smooth")
    assert code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["half"]
    found = np.load(tmp_path / "out/half/params.npz")
    np.testing.assert_array_equal(found["frame"], np.arange(0, FRAMES, 2))
    np.testing.assert_array_equal(found["track"], 0)
    assert np.ptp(found["shape"], axis=0).max() == 0.0
    assert (found["frames"], found["rate"]) == (FRAMES, pytest.approx(25.0))
    for name, width in (("overlay", 160), ("side_by_side", 320)):
        video = cv2.VideoCapture(str(tmp_path / f"out/half/{name}.mp4"))
        assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FRAME_WIDTH)) == (FRAMES, width)
        assert video.get(cv2.CAP_PROP_FPS) == 25.0
    changed = [np.abs(np.diff(np.split(video.read()[1].astype(int), 2, axis=1), axis=0)).mean() for _ in range(FRAMES)]
    np.testing.assert_array_equal(np.array(changed) > 1.0, np.arange(FRAMES) % 2 == 0)  # without a face: as it was


def test_overlays_keep_the_time_of_a_recording(tmp_path, predictor):
    """Stamps of no steady rate, from 10 s on, in a folder and file whose names hold colons."""
    stamps = 10.0 + np.array([0.0, 0.02, 0.1, 0.5, 2.0, 2.04])
    write_frames(tmp_path / "12:30:00.mkv", stamps)
    save = ["--save", "params,overlay,side-by-side", "--smooth"]
    assert run([tmp_path / "12:30:00.mkv"], tmp_path / "v1:test %d", "--cropped", *save) == 0
    folder = tmp_path / "v1:test %d/12:30:00"
    found = np.load(folder / "params.npz")
    np.testing.assert_allclose(found["seconds"], stamps - 10.0, atol=1e-6)
    np.testing.assert_allclose(found["times"][:-1], stamps - 10.0, atol=1e-6)
    assert found["rate"] == pytest.approx(6 / found["times"][-1])
    for name in ("overlay", "side_by_side"):
        decoder = VideoDecoder(folder / f"{name}.mp4")
        assert len(list(decoder)) == 6
        np.testing.assert_allclose([*decoder.starts, decoder.end], found["times"], atol=1e-4)


def test_a_folder_of_frames_as_a_video(tmp_path, predictor):
    for number in range(1, 13):
        write_face(tmp_path / f"walk/{number}.png", (20 * number, 0, 0))
    assert run([tmp_path / "walk"], tmp_path / "out", "--cropped", "--as-video", "--rate", "10") == 0
    found = np.load(tmp_path / "out/walk/params.npz")
    np.testing.assert_allclose(found["shape"][:, 0] * 255, 20 * np.arange(1, 13), atol=1)
    np.testing.assert_allclose(found["times"], np.arange(13) / 10)
    assert found["rate"] == pytest.approx(10.0)
    assert sorted(path.name for path in (tmp_path / "out/walk").iterdir()) == ["overlay.mp4", "params.npz"]


def test_every_kind_is_replaced_by_the_next_prediction(tmp_path, predictor):
    """A photograph, and a video of the same name afterwards."""
    write_face(tmp_path / "photographs/a.png", RED)
    write_video(tmp_path / "videos/a.mp4")
    every = ",".join(kind for kind in WRITERS if kind != "arkit")
    for folder, count in (("photographs", 8), ("videos", 5 + 3 * FRAMES)):
        for kinds, expected in ((every, count), ("params", 1)):
            assert run([tmp_path / folder], tmp_path / "out", "--cropped", "--save", kinds) == 0
            assert len(list((tmp_path / "out/a").iterdir())) == expected


def test_an_input_among_its_own_results_is_not_replaced(tmp_path, predictor, capsys):
    write_face(tmp_path / "overlay/overlay.png", RED)
    whole = (tmp_path / "overlay/overlay.png").read_bytes()
    assert run([tmp_path / "overlay/overlay.png"], tmp_path, "--cropped", "--save", "params") == 1
    assert "results would replace" in capsys.readouterr().err
    assert (predictor.batches, (tmp_path / "overlay/overlay.png").read_bytes()) == ([], whole)


def test_frames_of_another_size_are_named(tmp_path, predictor, capsys):
    for number, scale in enumerate((1.0, 1.0, 2.0, 1.0)):
        write_face(tmp_path / f"walk/{number}.png", RED, scale=scale)
    assert run([tmp_path / "walk"], tmp_path / "out", "--cropped", "--as-video") == 1
    error = capsys.readouterr().err
    assert "2.png has 320 x 240 pixels, 0.png has 160 x 120: the frames of a video are of one size" in error
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_results_are_no_inputs_of_the_next_run(tmp_path, predictor, capsys):
    write_face(tmp_path / "in/a.png", RED)
    for output in (tmp_path, tmp_path / "in/out", tmp_path / "in/out"):  # the first one lies above the pictures
        assert run([tmp_path / "in"], output, "--cropped") == 0
        assert "1 faces in 1 of 1 inputs" in capsys.readouterr().out
        assert [path.name for path in output.iterdir() if path.name != "in"] == ["a"]
    assert run([tmp_path / "in/out"], tmp_path / "in/out", "--cropped") == 1
    assert "in/out: the folder is the output itself" in capsys.readouterr().err


def test_an_input_that_fails_oddly_loses_no_other(tmp_path, predictor, monkeypatch, capsys):
    for name in ("a.png", "b.png", "c.png"):
        write_face(tmp_path / name, RED)
    write = command.write_outputs

    def odd(output, model, prediction, kinds):
        if prediction.footage.clip.name == "b":
            raise KeyError("an error that nobody foresaw")
        return write(output, model, prediction, kinds)

    monkeypatch.setattr(command, "write_outputs", odd)
    assert run([f"{tmp_path}/?.png"], tmp_path / "out", "--cropped") == 1
    assert "b.png: nothing written: unexpected KeyError" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]


def test_what_the_model_lacks_is_said_before_the_first_photograph(tmp_path, predictor):
    write_face(tmp_path / "a.png", RED)
    with pytest.raises(ValueError, match="ellipsoid has no ARKit blendshapes"):
        run([tmp_path / "a.png"], tmp_path / "out", "--cropped", "--save", "params,arkit")
    assert predictor.batches == []


def test_a_box_outside_the_picture_costs_that_picture(tmp_path, predictor, capsys):
    for name in ("a.png", "b.png"):
        write_face(tmp_path / name, RED)
    (tmp_path / "boxes.csv").write_text("file,left,top,right,bottom\na.png,2000,2000,2100,2100\nb.png,40,40,100,100\n")
    assert run([f"{tmp_path}/?.png"], tmp_path / "out", "--boxes", str(tmp_path / "boxes.csv")) == 1
    assert "a.png: boxes.csv, line 2: the middle of the box" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_several_faces_by_a_csv_and_crops_as_they_are(tmp_path, predictor):
    write_face(tmp_path / "a.png", RED)
    (tmp_path / "boxes.csv").write_text("file,left,top,right,bottom\na.png,60,50,80,70\na.png,40,40,100,100\n")
    save = ["--save", "params,obj,landmarks,camera"]
    assert run([tmp_path / "a.png"], tmp_path / "out", "--boxes", str(tmp_path / "boxes.csv"), *save) == 0
    files = {path.name for path in (tmp_path / "out/a").iterdir()}
    assert files == {"params.npz", "head_0.obj", "head_1.obj", "landmarks.npz", "camera.json"}
    half = np.load(tmp_path / "out/a/params.npz")["box_half"]
    np.testing.assert_allclose(half, 1.75 * np.array([30, 10]))  # the largest face is the first
    assert run([tmp_path / "a.png"], tmp_path / "whole", "--cropped") == 0
    np.testing.assert_allclose(np.load(tmp_path / "whole/a/params.npz")["box_half"], 80)


def test_outputs_that_cannot_be_written(tmp_path, predictor, capsys):
    for name in ("a.png", "b.png"):
        write_face(tmp_path / name, RED)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("in the way")
    assert run([f"{tmp_path}/?.png"], tmp_path / "out", "--cropped") == 1
    assert "out/a is a file where a folder has to be" in capsys.readouterr().err
    assert predictor.batches == [1], "b alone: what can be known is known before the network runs"
    assert (tmp_path / "out/b/params.npz").exists()
    with pytest.raises(OSError, match="out/a"):
        run([tmp_path / "a.png"], tmp_path / "out/a", "--cropped")


@pytest.mark.parametrize("option", ["--rate", "--max-faces", "--workers", "--min-cutoff", "--seconds"])
@pytest.mark.parametrize("value", ["0", "-2", "nan", "many"])
def test_numbers_that_make_no_sense_are_refused_at_once(tmp_path, capsys, option, value):
    assert run(["a.png"], tmp_path, "--cropped", option, value) == 2
    assert option in capsys.readouterr().err


def test_what_cannot_be_saved_is_refused_at_once(tmp_path, capsys):
    assert run(["a.png"], tmp_path, "--cropped", "--save", "params,stl") == 2
    assert "stl cannot be saved; choose from params," in capsys.readouterr().err


def test_a_refused_command_leaves_no_output(tmp_path):
    write_face(tmp_path / "a.png", RED)
    with pytest.raises(CheckpointError, match="is no run directory"):
        run([tmp_path / "a.png"], tmp_path / "out", "--cropped")
    assert not (tmp_path / "out").exists()
