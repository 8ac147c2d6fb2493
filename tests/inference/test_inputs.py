"""Which clips a command line means."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sheap_jax.data.prepare.decoding import VideoDecoder
from sheap_jax.inference import inputs as inputs_module
from sheap_jax.inference.inputs import find_inputs, record_webcam


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b/c.PNG", "b/c.mp4", "b/notes.txt", "b/.hidden.jpg", ".cache/d.jpg", "x[1].jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    return tmp_path / "in"


def names(inputs):
    return {clip.name: clip.is_video for clip in inputs.clips}


def test_a_folder_is_searched_and_names_are_unique(folder):
    inputs = find_inputs([str(folder)])
    assert names(inputs) == {"a": False, "b/c-png": False, "b/c-mp4": True, "x[1]": False}
    assert inputs.failures == []


def test_files_patterns_and_what_is_named_twice(folder):
    inputs = find_inputs([f"{folder}/*.jpg", f"{folder}/a.jpg", f"{folder}/b/*", f"{folder}/x[1].jpg"])
    assert names(inputs) == {"a": False, "x[1]": False, "c-png": False, "c-mp4": True}


def test_equal_names_of_two_folders_are_numbered(folder):
    (folder / "b/a.jpg").touch()
    assert list(names(find_inputs([f"{folder}/a.jpg", f"{folder}/b/a.jpg"]))) == ["a-jpg", "a-jpg-2"]


def test_numbers_in_names_are_counted(tmp_path):
    wanted = ["a2/9.jpg", "a2/10.jpg", "a10/1.jpg", "a10/02.jpg", "a10/3b.jpg", "a10/10.jpg"]
    for name in wanted:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for argument in (str(tmp_path), f"{tmp_path}/*/*.jpg"):
        found = [str(clip.path.relative_to(tmp_path)) for clip in find_inputs([argument]).clips]
        assert found == wanted


def test_the_pictures_of_a_folder_as_a_video(tmp_path):
    root = tmp_path / "walk"
    for name in ("1.jpg", "2.png", "10.jpg", "b/3.jpg", "b/20.jpg", "c/only.jpg", "talk.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    clips = find_inputs([str(root), str(root / "1.jpg")], as_video=True, rate=12.0).clips
    found = {clip.name: [str(file.relative_to(root)) for file in clip.files] for clip in clips}
    expected = {"walk": ["1.jpg", "2.png", "10.jpg"], "b": ["b/3.jpg", "b/20.jpg"], "c": ["c/only.jpg"]}
    assert found == {**expected, "talk": ["talk.mp4"], "1": ["1.jpg"]}
    assert {clip.name: clip.is_photograph for clip in clips} == {"walk": 0, "b": 0, "c": 1, "talk": 0, "1": 1}
    assert {clip.rate for clip in clips} == {12.0}


def test_no_name_leads_out_of_the_output(tmp_path):
    (tmp_path / "...jpg").touch()
    assert names(find_inputs([str(tmp_path / "...jpg")])) == {"..-jpg": False}


def test_folders_with_the_suffix_of_a_file(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "a.mp4/b.jpg").touch()
    assert names(find_inputs([str(tmp_path / "a.mp4")])) == {"b": False}
    assert find_inputs([f"{tmp_path}/*.mp4"]).clips == []


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("nothing.jpg", "does not exist"),
        ("b/*.gif", "does not exist"),
        ("b/notes.txt", "by its suffix"),
        ("e", "holds"),
    ],
)
def test_what_gives_nothing_says_why(folder, argument, reason):
    (folder / "e").mkdir()
    inputs = find_inputs([f"{folder}/{argument}", f"{folder}/a.jpg"])
    (failure,) = inputs.failures
    assert reason in failure.reason
    assert failure.path == f"{folder}/{argument}"
    assert names(inputs) == {"a": False}


class FakeCamera:
    """Seven pictures, the fourth late, then it is unplugged; its own clock."""

    now = 100.0

    def __init__(self, number):
        self.left = 7 if number == 0 else 0

    def isOpened(self):
        return self.left > 0

    def read(self):
        FakeCamera.now += 0.5 if self.left == 4 else 0.05
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), (200, 100, 50), np.uint8)  # BGR

    def release(self):
        pass


def test_a_webcam_is_recorded_at_the_times_of_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(inputs_module, "time", SimpleNamespace(monotonic=lambda: FakeCamera.now))
    path = record_webcam("webcam:0", tmp_path, seconds=60.0)
    for bad in ("webcam:1", "webcam:front"):
        with pytest.raises(ValueError, match="first camera is webcam:0"):
            record_webcam(bad, tmp_path, seconds=60.0)
    (tmp_path / "short").mkdir()
    short = record_webcam("webcam:0", tmp_path / "short", seconds=0.12)
    monkeypatch.undo()
    for recorded, steps in ((path, [0.05, 0.05, 0.5, 0.05, 0.05, 0.05, 0.05]), (short, [0.05, 0.05, 0.5])):
        decoder = VideoDecoder(recorded)
        np.testing.assert_allclose([frame.image()[24, 32] for frame in decoder], [(50, 100, 200)] * len(steps), atol=6)
        np.testing.assert_allclose(np.diff([*decoder.starts, decoder.end]), steps, atol=1e-4)
    assert [file.name for file in tmp_path.glob("*.*")] == ["webcam0.mp4"]
