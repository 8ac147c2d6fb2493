"""Which clips a command line means."""

import cv2
import numpy as np
import pytest

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
    """Seven pictures, then it is unplugged."""

    def __init__(self, number):
        self.left = 7 if number == 0 else 0

    def isOpened(self):
        return self.left > 0

    def get(self, what):
        return 20.0

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), (200, 100, 50), np.uint8)  # BGR

    def release(self):
        pass


def test_a_webcam_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    path = record_webcam("webcam:0", tmp_path, seconds=60.0)
    for bad in ("webcam:1", "webcam:front"):
        with pytest.raises(ValueError, match="first camera is webcam:0"):
            record_webcam(bad, tmp_path, seconds=60.0)
    monkeypatch.undo()
    video = cv2.VideoCapture(str(path))
    assert (video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)) == (20.0, 7.0)
    np.testing.assert_allclose(video.read()[1][24, 32], (200, 100, 50), atol=6)
    assert [file.name for file in tmp_path.iterdir()] == ["webcam0.mp4"]
