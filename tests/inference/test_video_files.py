"""A video is there once it is complete."""

import numpy as np
import pytest

from sheap_jax.inference import video_files
from sheap_jax.inference.video_files import VideoFile

PICTURE = np.zeros((16, 16, 3), np.uint8)


def test_it_is_on_the_disk_under_a_name_that_nobody_can_guess(tmp_path, monkeypatch):
    """The name was known once: a link in its place had its target overwritten."""
    synced = []
    monkeypatch.setattr(video_files, "to_disk", lambda path: synced.append(path.name))
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / ".clip.mp4.partial").symlink_to(tmp_path / "precious.txt")
    with VideoFile(tmp_path / "clip.mp4") as video:
        video.write(PICTURE, until=0.1)
    (tmp_path / ".clip.mp4.partial").unlink()
    assert (tmp_path / "precious.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "precious.txt"]
    assert len(synced) == 1


def test_an_error_leaves_the_old_one(tmp_path):
    (tmp_path / "clip.mp4").write_text("old")

    def fail() -> None:
        with VideoFile(tmp_path / "clip.mp4") as video:
            video.write(PICTURE, until=0.1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_text() == "old"
