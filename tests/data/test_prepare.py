"""`python -m sheap_jax.data.prepare` on tiny synthetic videos: what is written, and what happens to every bad file."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sheap_jax.data.frames import decode_frame
from sheap_jax.data.prepare import __main__ as prepare
from sheap_jax.data.prepare.__main__ import main
from sheap_jax.data.prepare.landmarks import NpzLandmarks
from sheap_jax.data.prepare.pack import held_out_identities
from sheap_jax.data.records import ShardError, Split
from tests.data.tiny_videos import FRAMES, all_points, draw, face_points, write_landmarks, write_video
from tests.refusal import refusal


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with two good videos and their landmarks."""
    for name in ("anna", "bert"):
        write_video(tmp_path / "videos" / f"{name}.mp4")
    write_landmarks(tmp_path / "points.npz", {f"{name}.mp4": all_points() for name in ("anna", "bert")})
    return tmp_path


def run(folder: Path, *options: str, output: str = "shards") -> Path:
    """Run the command in this process on `folder`/videos with `folder`/points.npz; the output directory."""
    main([*arguments(folder, output=output), "--processes", "0", *options])
    return folder / output


def arguments(folder: Path, *, output: str = "shards") -> list[str]:
    """Of the command, with filters that the drawn faces pass."""
    files = ["--output", str(folder / output), "--landmarks", str(folder / "points.npz")]
    return [str(folder / "videos"), *files, "--min-face", "40", "--min-sharpness", "0"]


def contents(output: Path) -> dict[str, bytes]:
    """Everything but the parts."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def failures(output: Path) -> dict[str, str]:
    return {Path(entry["file"]).name: entry["reason"] for entry in json.loads((output / "failed.json").read_text())}


def test_records_hold_the_crop_and_its_landmarks(videos):
    split = Split(run(videos, "--image-size", "96"), "train")
    assert len(split) == 2 * FRAMES
    assert [split.key(i) for i in (0, FRAMES)] == ["anna/anna/0", "bert/bert/0"]
    first = decode_frame(split[0], image_size=96)
    # By hand: the box is 40 x 50 about (70, 70); half side 25 x 1.9 = 47.5, centre 12.5 higher at (70, 57.5).
    np.testing.assert_allclose(first.landmarks, (face_points() - (22.5, 10.0)) * 96 / 95, atol=1e-3)
    # The green nose of the picture is where its landmark says, in a late frame too: image and points moved together.
    for number in (0, FRAMES - 1):
        frame = decode_frame(split[number], image_size=96)
        green = np.clip(frame.image[..., 1] - frame.image[..., 0], 0, 1)
        rows, columns = np.mgrid[:96, :96] + 0.5
        found = np.array([(green * columns).sum(), (green * rows).sum()]) / green.sum()
        assert np.linalg.norm(found - frame.landmarks[30] - 0.5) < 0.7  # cv2.circle centres on a pixel, hence 0.5


def test_the_crop_of_a_video_trails_behind(videos):
    split = Split(run(videos, "--image-size", "95"), "train")
    center, x = 70.0, []
    for frame in range(FRAMES):
        center = 0.3 * (70.0 + frame) + 0.7 * center if frame else center
        x.append(face_points(frame)[30, 0] - (center - 47.5))
    np.testing.assert_allclose([split[i].landmarks[30, 0] for i in range(FRAMES)], x, atol=1e-3)


def test_stride_and_image_size(videos):
    split = Split(run(videos, "--stride", "3", "--image-size", "64"), "train")
    assert split.index.frame.tolist() == [0, 3, 6, 0, 3, 6]
    assert decode_frame(split[0], image_size=64).image.shape == (64, 64, 3)


def test_bad_files_are_reported_and_the_others_go_on(videos, capsys):
    folder = videos / "videos"
    (folder / "noise.mp4").write_bytes(b"not a video" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    whole = write_video(folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    write_video(folder / "unknown.mp4")
    write_video(folder / "longer.mp4", FRAMES + 3)
    write_video(folder / "faceless.mp4")
    write_video(folder / "outside.mp4")
    files = ("noise", "empty", "cut", "longer", "anna", "bert")
    points = {f"{name}.mp4": all_points() for name in files}
    points["faceless.mp4"] = np.full((FRAMES, 68, 2), np.nan)
    points["outside.mp4"] = all_points() + np.array([500.0, 0.0])
    write_landmarks(videos / "points.npz", points)

    output = run(videos)

    reasons = failures(output)
    assert set(reasons) == {f"{n}.mp4" for n in ("noise", "empty", "cut", "unknown", "longer", "faceless", "outside")}
    for name, reason in {"noise": "cannot be opened", "empty": "is empty", "cut": "is truncated"}.items():
        assert reason in reasons[f"{name}.mp4"]
    assert "no landmarks for unknown.mp4" in reasons["unknown.mp4"]
    assert f"{FRAMES + 3} frames" in reasons["longer.mp4"]
    assert f"landmarks for {FRAMES}" in reasons["longer.mp4"]
    assert f"no face found ({FRAMES})" in reasons["faceless.mp4"]
    assert f"outside the image ({FRAMES})" in reasons["outside.mp4"]
    assert Split(output, "train").index.identity_names.tolist() == ["anna", "bert"]
    printed = capsys.readouterr().out
    assert all(reason in printed for reason in reasons.values())
    assert "9 clips found; 7 files gave nothing" in printed


def test_an_unexpected_error_in_one_file_does_not_end_the_run(videos, monkeypatch):
    detect = NpzLandmarks.detect

    def stumble(self, number, image):
        if self.clip.name == "anna":
            raise cv2.error("odd pixel format")
        return detect(self, number, image)

    monkeypatch.setattr(NpzLandmarks, "detect", stumble)
    output = run(videos)
    assert "odd pixel format" in failures(output)["anna.mp4"]
    assert Split(output, "train").index.identity_names.tolist() == ["bert"]


def test_frames_without_face_are_counted_and_skipped(videos, capsys):
    points = all_points()
    points[2] = np.nan
    points[5] += (0.0, 400.0)
    points[6] = 40.0
    write_landmarks(videos / "points.npz", {"anna.mp4": points, "bert.mp4": all_points()})
    split = Split(run(videos), "train")
    assert split.index.frame[:5].tolist() == [0, 1, 3, 4, 7]
    printed = capsys.readouterr().out
    for reason in ("no face found", "most landmarks outside the image", "landmarks not finite or all on one point"):
        assert f"1 frames left out: {reason}" in printed


def test_the_largest_of_several_faces_is_taken(videos):
    small = all_points() * 0.5
    pairs = {"anna.mp4": np.stack([small, all_points()], axis=1), "bert.mp4": np.stack([all_points(), small], axis=1)}
    pairs["bert.mp4"][3] = np.nan
    alone = Split(run(videos, output="alone"), "train")
    write_landmarks(videos / "points.npz", pairs)
    several = Split(run(videos, output="several"), "train")
    expected = {alone.key(i): alone[i].landmarks for i in range(len(alone))}
    del expected["bert/bert/3"]
    found = {several.key(i): several[i].landmarks for i in range(len(several))}
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["anna/anna/7"], expected["anna/anna/7"])


def test_landmarks_outside_the_image_weigh_nothing(videos):
    write_landmarks(videos / "points.npz", {"anna.mp4": all_points() - np.array([60.0, 0.0]), "bert.mp4": all_points()})
    split = Split(run(videos), "train")
    outside = (face_points() - (60.0, 0.0))[:, 0] < 0
    assert 0 < outside.sum() < 34
    np.testing.assert_array_equal(split[0].weights == 0, outside)
    assert (split[FRAMES].weights > 0).all()


def test_nothing_written_is_an_error(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "noise.mp4").write_bytes(b"noise")
    write_landmarks(tmp_path / "points.npz", {"noise.mp4": all_points()})
    with pytest.raises(SystemExit) as stop:
        run(tmp_path)
    assert stop.value.code == 1
    assert set(failures(tmp_path / "shards")) == {"noise.mp4"}
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--landmarks", "points.npz"], "does not exist"),
        (["--landmarks", "incomplete.npz"], "no array 'sets'"),
        (["--face-landmarker", "missing.task"], "download face_landmarker.task"),
    ],
)
def test_bad_arguments_name_the_file_and_the_way_out(videos, capsys, options, message, monkeypatch):
    monkeypatch.chdir(videos)
    np.savez("incomplete.npz", other=np.zeros(3))
    source = "nowhere" if message == "does not exist" else "videos"
    assert message in refusal(prepare, [source, "--output", "out", *options], capsys)


def test_a_failure_says_its_path_once(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "videos" / name).write_bytes(b"no picture")
    write_landmarks(tmp_path / "points.npz", {f"{name}.png": all_points(1) for name in "ab"})
    with pytest.raises(SystemExit):
        run(tmp_path, "--layout", "stills")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert sorted(set(lines)) == [
        f"failed: {tmp_path}/videos/{name}.png: is no picture, or a damaged one" for name in "ab"
    ]


def test_images_of_a_folder_are_frames(tmp_path):
    folder = tmp_path / "videos" / "carla"
    folder.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i + 9}.png"), cv2.cvtColor(draw(i), cv2.COLOR_RGB2BGR))
    files = np.array([f"carla/{i + 9}.png" for i in range(3)])  # numbers count: 9 comes before 10
    np.savez(tmp_path / "points.npz", sets=["s"], s_files=files, s_lmk68=all_points(3))
    split = Split(run(tmp_path), "train")
    assert [split.key(i) for i in range(3)] == [f"carla/carla/{i}" for i in range(3)]
    places = [split[i].landmarks.mean() for i in range(3)]
    assert places == sorted(places), "the face moves to the right"


def test_heads_on_their_side_are_set_upright(tmp_path):
    """Frames and landmarks turned clockwise give the records of the upright ones."""
    splits = []
    for name, turns in (("upright", 0), ("turned", 1)):
        folder = tmp_path / name / "videos" / "carla"
        folder.mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / f"{i}.png"), cv2.cvtColor(np.rot90(draw(i), -turns).copy(), cv2.COLOR_RGB2BGR))
        points = all_points(3)
        if turns:
            points = np.stack([draw(0).shape[0] - points[..., 1], points[..., 0]], axis=-1)
        files = np.array([f"carla/{i}.png" for i in range(3)])
        np.savez(tmp_path / name / "points.npz", sets=["s"], s_files=files, s_lmk68=points)
        splits.append(Split(run(tmp_path / name, "--image-size", "96"), "train"))
    for upright, turned in zip(*([split[i] for i in range(3)] for split in splits), strict=True):
        np.testing.assert_allclose(turned.landmarks, upright.landmarks, atol=1e-3)
        images = [decode_frame(record, image_size=96).image for record in (turned, upright)]
        np.testing.assert_allclose(images[0], images[1], atol=0.05)
    rows = [json.loads((tmp_path / name / "shards/train-clips.jsonl").read_text()) for name in ("upright", "turned")]
    assert [row["turns"] for row in rows] == [[0] * 3, [1] * 3]


def test_holding_out(videos):
    output = run(videos, "--test-share", "0.25", "--hold-out", "frames")
    assert Split(output, "train").index.frame.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert Split(output, "test").index.frame.tolist() == [6, 7] * 2

    output = run(videos, "--test-share", "0.25")
    train, test = (set(Split(output, split).index.identity_names) for split in ("train", "test"))
    assert len(test) == 1
    assert train | test == {"anna", "bert"}
    assert not train & test


@pytest.mark.parametrize("rule", ["identities", "frames"])
def test_a_split_without_frames_goes(videos, capsys, rule):
    """All frames are in the split train once nothing is held out: the output is that of a first command."""
    run(videos, "--test-share", "0.25", "--hold-out", rule)
    capsys.readouterr()
    output = run(videos, "--hold-out", rule)
    assert "the split test of an earlier command was removed: it is empty now" in capsys.readouterr().out
    assert len(Split(output, "train")) == 2 * FRAMES
    with pytest.raises(ShardError, match="has no split 'test'"):
        Split(output, "test")
    assert contents(output) == contents(run(videos, "--hold-out", rule, output="fresh"))
    assert "was removed" not in capsys.readouterr().out


def test_splits_stay_where_every_clip_fails(videos, capsys):
    output = run(videos, "--test-share", "0.25")
    before = {name: content for name, content in contents(output).items() if name != "failed.json"}
    write_landmarks(videos / "points.npz", {f"{name}.mp4": np.nan * all_points() for name in ("anna", "bert")})
    with pytest.raises(SystemExit):
        run(videos)
    assert "nothing was written" in capsys.readouterr().err
    assert before == {name: content for name, content in contents(output).items() if name != "failed.json"}


def test_held_out_people_do_not_depend_on_their_order():
    names = [f"id{i}" for i in range(50)]
    held_out = held_out_identities(names, 0.2)
    assert len(held_out) == 10
    assert held_out == held_out_identities(names[::-1] * 2, 0.2)
