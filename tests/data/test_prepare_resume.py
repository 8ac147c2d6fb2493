"""Crashes, hangs and kills: each costs its own clip at most, and the shards come out the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheap_jax.data.prepare import __main__ as prepare
from sheap_jax.data.prepare import clip_result
from sheap_jax.data.prepare.__main__ import main
from sheap_jax.data.prepare.clip_result import ClipConversion, Settings, load_status
from sheap_jax.data.prepare.clips import find_clips
from sheap_jax.data.prepare.engines import convert_here
from sheap_jax.data.prepare.layouts import Layout
from sheap_jax.data.prepare.quality import Quality
from sheap_jax.data.records import Split
from tests.data.faulty_source import FaultySource
from tests.data.tiny_videos import FRAMES, all_points, write_landmarks, write_video
from tests.other_writer import other_writer
from tests.refusal import refusal

ROOT = Path(__file__).parents[2]
LENIENT = Settings(image_size=32, quality=Quality(min_face=40, min_sharpness=0))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with four videos and their landmarks."""
    names = [f"v{i}.mp4" for i in range(4)]
    for name in names:
        write_video(tmp_path / "videos" / name)
    write_landmarks(tmp_path / "points.npz", {name: all_points() for name in names})
    return tmp_path


def arguments(folder: Path, output: str, *options: str) -> list[str]:
    files = ["--output", str(folder / output), "--landmarks", str(folder / "points.npz"), "--image-size", "32"]
    return [str(folder / "videos"), *files, "--min-face", "40", "--min-sharpness", "0", *options]


def contents(output: Path) -> dict[str, bytes]:
    """Everything but the parts."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def converted(monkeypatch) -> list[str]:
    """Names of the clips that are converted from now on, in this process."""
    names: list[str] = []
    real = clip_result.convert_clip

    def spy(clip, *args, **kwargs):
        names.append(clip.name)
        return real(clip, *args, **kwargs)

    monkeypatch.setattr(clip_result, "convert_clip", spy)
    return names


def test_a_crash_and_a_hang_cost_their_clip_only(tmp_path):
    for name in ("anna", "crash", "dora", "hang", "zoe"):
        write_video(tmp_path / "videos" / f"{name}.mp4", 3)
    conversion = ClipConversion(FaultySource(), LENIENT, tmp_path / "parts", time_limit=2.0)
    clips = find_clips([tmp_path / "videos"], Layout("video")).clips
    outcome = {clip.name: status for clip, status in convert_here(clips, conversion, processes=2)}
    assert len(outcome) == 5
    assert [outcome[name].records for name in ("anna", "dora", "zoe")] == [3, 3, 3]
    assert outcome["crash"].reason == "the process that converted it died with exit code -11"
    assert outcome["hang"].reason == "took longer than the time limit of 2 s"
    for clip in clips:  # stored as well: the next run knows
        assert load_status(clip, conversion) == outcome[clip.name]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_and_started_again_gives_the_same_bytes(videos):
    main(arguments(videos, "whole", "--processes", "0"))
    options = ["--processes", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    command = [sys.executable, "-m", "sheap_jax.data.prepare", *arguments(videos, "killed", *options)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = videos / "killed" / "parts"
    while not any(parts.rglob("*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (videos / "killed" / "manifest.json").exists()
    main(arguments(videos, "killed", "--processes", "0"))
    assert contents(videos / "killed") == contents(videos / "whole")


def test_a_second_run_does_what_is_missing_and_nothing_else(videos, monkeypatch, capsys):
    names = converted(monkeypatch)
    command = arguments(videos, "out", "--processes", "0")
    main(command)
    assert sorted(names) == ["v0", "v1", "v2", "v3"]
    before = {path: path.stat().st_mtime_ns for path in (videos / "out").iterdir() if path.suffix != ".json"}
    names.clear()
    main(command)
    assert names == []
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nor are the shards written again
    capsys.readouterr()
    main(arguments(videos, "out"))  # in processes, of which none is needed
    assert "nothing to do: all 4 clips were converted before" in capsys.readouterr().out

    write_video(videos / "videos" / "v2.mp4", FRAMES - 2)  # another video under the same name
    write_landmarks(videos / "points.npz", {f"v{i}.mp4": all_points(FRAMES - 2 * (i == 2)) for i in range(4)})
    main(command)
    assert sorted(names) == ["v0", "v1", "v2", "v3"]  # landmarks come from another file
    assert len(Split(videos / "out", "train")) == 4 * FRAMES - 2
    names.clear()
    write_video(videos / "videos" / "v2.mp4", FRAMES)
    main(command)
    assert names == ["v2"]
    (failed,) = json.loads((videos / "out" / "failed.json").read_text())
    assert f"has {FRAMES} frames, but points.npz has landmarks for {FRAMES - 2}" in failed["reason"]
    names.clear()
    main([*command, "--retry-failed"])
    assert names == ["v2"]
    names.clear()
    main([*command, "--stride", "2"])
    assert sorted(names) == ["v0", "v1", "v2", "v3"]
    assert len(Split(videos / "out", "train")) == 3 * FRAMES // 2


def test_clips_of_the_output_are_not_dropped_by_a_command_that_does_not_name_them(videos, monkeypatch, capsys):
    main(arguments(videos, "out", "--processes", "0"))
    names = converted(monkeypatch)
    write_video(videos / "more" / "w0.mp4")
    before = contents(videos / "out")
    capsys.readouterr()
    for inputs in (["more"], ["videos/v0.mp4", "more"], ["videos/v0.mp4"]):  # with the last one nothing is to convert
        command = [str(videos / name) for name in inputs] + arguments(videos, "out", "--processes", "0")[1:]
        error = refusal(prepare, command, capsys)
        lost = 4 - ("videos/v0.mp4" in inputs)
        first = "v0/v0, v1/v1, v2/v2, ..." if lost == 4 else "v1/v1, v2/v2, v3/v3"
        assert f"out holds clips that are not among these inputs, {lost} in all ({first}): give all inputs" in error
        assert names == []
        assert contents(videos / "out") == before
    next((videos / "out").glob("*-index.npz")).write_bytes(b"")  # then nobody knows what would be lost
    only = [str(videos / "videos" / "v0.mp4"), *arguments(videos, "out", "--processes", "0")[1:]]
    error = refusal(prepare, only, capsys)
    assert "index.npz has 0 bytes" in error
    assert "--replace" in error
    main([*only, "--replace"])
    assert len(Split(videos / "out", "train")) == FRAMES


def test_a_damaged_part_is_noticed_and_made_again(videos, capsys):
    command = arguments(videos, "out", "--processes", "0")
    main(command)
    expected = contents(videos / "out")
    part = next((videos / "out" / "parts").rglob("*.part"))
    part.write_bytes(part.read_bytes()[:-1] + b"\x00")
    for path in (videos / "out").glob("*"):
        if path.is_file():
            path.unlink()
    assert part.name in refusal(prepare, command, capsys)
    main(command)
    assert contents(videos / "out") == expected


def test_results_that_cannot_be_stored_stop_the_run(tmp_path):
    write_video(tmp_path / "videos" / "anna.mp4", 2)
    (tmp_path / "parts").write_text("a file where the folder should be")
    conversion = ClipConversion(FaultySource(), LENIENT, tmp_path / "parts")
    clips = find_clips([tmp_path / "videos"], Layout("video")).clips
    with pytest.raises(RuntimeError, match=r"anna\.mp4: the result cannot be stored in .*parts"):
        list(convert_here(clips, conversion, processes=1))


def test_beam_without_beam_says_how_to_install(videos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    said = refusal(prepare, arguments(videos, "out", "--runner", "DirectRunner"), capsys)
    assert "pip install 'sheap-jax[beam]'" in said


def test_options_of_beam_need_a_runner(videos, capsys):
    assert "--region moon" in refusal(prepare, arguments(videos, "out", "--region", "moon"), capsys)


def test_two_preparations_do_not_write_to_one_directory(videos, capsys):
    (videos / "out").mkdir()
    with other_writer(videos / "out/.lock") as process:
        line = refusal(prepare, arguments(videos, "out", "--processes", "0"), capsys)
        assert line.startswith(f"error: {videos / 'out'} is written to by process {process.pid} on ")
        assert line.endswith(": wait for its end, or choose another --output")
        assert [path.name for path in (videos / "out").iterdir()] == [".lock"]
    main(arguments(videos, "out", "--processes", "0"))  # the other was killed
    assert not (videos / "out/.lock").exists()
