"""Filters: what they measure, and that every frame left out is counted under its reason."""

import json

import cv2
import numpy as np
import pytest

from sheap_jax.data.prepare.__main__ import main
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.landmarks import NpzLandmarks
from sheap_jax.data.prepare.quality import BLURRED, JUMP, SMALL, FaceBox, face_box, has_jumped, sharpness
from sheap_jax.data.prepare.video import FrameReader
from sheap_jax.data.records import Split
from tests.data.tiny_videos import FRAMES, all_points, face_points, write_landmarks, write_video


def prepare(folder, *options):
    """The manifest's entry of one video prepared with its landmarks, and its frame numbers."""
    files = ["--output", str(folder / "out"), "--landmarks", str(folder / "points.npz"), "--processes", "0"]
    main([str(folder / "anna.mp4"), *files, *options])
    entry = json.loads((folder / "out" / "manifest.json").read_text())["splits"]["train"]
    return entry, Split(folder / "out", "train").index.frame.tolist()


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "anna.mp4")
    write_landmarks(tmp_path / "points.npz", {"anna.mp4": all_points()})
    return tmp_path


def test_blur_lowers_sharpness_at_any_size():
    grain = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    points = face_points() - 6.0
    values = [sharpness(cv2.GaussianBlur(grain, (0, 0), sigma), points) for sigma in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[-1]
    assert sharpness(np.full_like(grain, 90), points) == 0.0


def test_jumps_are_told_from_movement():
    box = face_box(face_points())
    assert box.side == pytest.approx(np.ptp(face_points()[:, 1]))
    for moved, grown, expected in ((0.5, 1.0, False), (0.9, 1.0, True), (0.0, 1.6, False), (0.0, 1.9, True)):
        now = FaceBox(box.center + np.array([0.0, moved * box.side]), grown * box.side)
        assert has_jumped(box, now, max_jump=0.75) == expected
        assert has_jumped(now, FaceBox(now.center, box.side), max_jump=0.75) == (grown > 1.75)


def test_the_longest_track_of_a_clip_stays(video):
    points = all_points()
    points[2] += (0.0, 45.0)  # one frame of another face
    write_landmarks(video / "points.npz", {"anna.mp4": points})
    entry, frames = prepare(video, "--min-face", "40", "--min-sharpness", "0")
    assert frames == [3, 4, 5, 6, 7]
    assert entry["provenance"]["left_out"] == {JUMP: 3}
    (row,) = map(json.loads, (video / "out" / "train-clips.jsonl").read_text().splitlines())
    assert row["frame"] == frames
    # The first crop of the track is its own: half side 1.9 x 25, centre 12.5 above that of the landmarks.
    np.testing.assert_allclose(row["crop"][0], (73.0, 57.5, 47.5), atol=0.05)


@pytest.mark.parametrize(("option", "reason"), [(("--min-face", "51"), SMALL), (("--min-sharpness", "1e6"), BLURRED)])
def test_frames_below_a_bound_are_counted(video, option, reason):
    with pytest.raises(SystemExit):  # none is left
        prepare(video, "--min-face", "40", "--min-sharpness", "0", *option)
    (failed,) = json.loads((video / "out" / "failed.json").read_text())
    bound = f"below {option[0]} {float(option[1]):g}"
    assert failed["reason"].startswith(f"no usable frame among {FRAMES}: {reason}, {bound}")
    assert failed["reason"].endswith(f" ({FRAMES})")


def test_frames_of_low_score_have_no_face(video):
    with np.load(video / "points.npz") as arrays:
        np.savez(video / "points.npz", **arrays, set0_score=np.linspace(0.0, 1.0, FRAMES))
    clip = Clip("anna", "anna", (video / "anna.mp4",), is_video=True, source="anna.mp4")
    landmarks = NpzLandmarks(video / "points.npz", min_confidence=0.5)
    landmarks.start(clip)
    found = [len(landmarks.detect(k, np.zeros((4, 4, 3), np.uint8))) for k in range(FRAMES)]
    assert found == [int(score >= 0.5) for score in np.linspace(0.0, 1.0, FRAMES)]


@pytest.mark.parametrize(("most", "expected"), [(0, 8), (3, 3), (4, 4), (5, 4), (100, 8)])
def test_at_most_so_many_frames_spread_over_the_clip(video, most, expected):
    clip = Clip("anna", "anna", (video / "anna.mp4",), is_video=True, source="anna.mp4")
    numbers = [frame.number for frame in FrameReader(clip, max_frames=most)]
    assert len(numbers) == expected
    assert len(set(np.diff(numbers))) <= 1
    assert numbers[0] == 0
