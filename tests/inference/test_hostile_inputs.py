"""`sheap predict` with inputs that are no files, that state what they do not hold, or whose names lead elsewhere."""

import os

import numpy as np
import pytest

from sheap_jax.commands import predict as command
from sheap_jax.data.photographs import MOST_PIXELS, read_photograph
from sheap_jax.files.places import folder_below
from tests.files.odd_files import write_npz_that_asks, write_pipe, write_png_header
from tests.inference.fake_predictor import FakePredictor, write_face

RED = (230, 20, 40)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on inputs; what it wrote to the terminal, and its exit code."""
    fake = FakePredictor()
    monkeypatch.setattr(command.Predictor, "from_checkpoint", lambda directory: fake)

    def run(inputs, *options):
        try:
            command.main([*map(str, inputs), "--checkpoint", "run", "--output", str(tmp_path / "out"), *options])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_what_is_no_file_or_states_too_much_is_one_line_and_the_others_go_on(tmp_path, run, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_face(folder / "good.jpg", RED)
    odd = {
        write_pipe(folder / "pipe.jpg"): "is a pipe or a device: name a file",
        write_pipe(folder / "pipe.mp4"): "is a pipe or a device: name a file",
        write_png_header(folder / "large.png", 2**15, 2**15): "states more than 268 million pixels",
    }
    assert run([folder / "good.jpg", *odd], "--cropped", "--save", "params") == 1
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("failed:")]
    for (path, words), line in zip(odd.items(), lines, strict=True):
        assert line.startswith(f"failed: {path}: ")
        assert words in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]


@pytest.mark.parametrize("name", ["...jpg", "..jpg", ". .jpg", "..\\..\\x.jpg"])
def test_results_of_oddly_named_photographs_stay_below_the_output(tmp_path, run, name):
    (tmp_path / "in").mkdir()
    write_face(tmp_path / "in/plain.jpg", RED)
    os.rename(tmp_path / "in/plain.jpg", tmp_path / "in" / name)
    assert run([tmp_path / "in" / name], "--cropped", "--save", "params") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    (made,) = (tmp_path / "out").rglob("params.npz")
    assert made.parent.parent == tmp_path / "out"


def test_a_link_does_not_lead_results_out_of_the_output(tmp_path, run, capsys):
    write_face(tmp_path / "a.jpg", RED)
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "elsewhere")
    assert run([tmp_path / "a.jpg"], "--cropped", "--save", "params") == 1
    assert "does not lie below" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "", "a/..", "../a", "/etc", "a/../../b"])
def test_names_that_are_no_folder_below(tmp_path, name):
    with pytest.raises(ValueError, match="does not lie below"):
        folder_below(tmp_path / "out", name)
    assert folder_below(tmp_path / "out", "a/b") == tmp_path / "out/a/b"


def test_files_that_say_where_faces_are(tmp_path, run):
    write_face(tmp_path / "a.jpg", RED)
    pipe = write_pipe(tmp_path / "pipe")
    ask = write_npz_that_asks(tmp_path / "ask.npz", "sets")
    for options, words in (
        (["--boxes", str(pipe)], "pipe is a pipe or a device"),
        (["--landmarks", str(pipe)], "pipe is a pipe or a device"),
        (["--landmarks", str(ask)], r"ask\.npz is damaged or no \.npz"),
        (["--boxes", "/dev/zero"], "zero is a pipe or a device"),
        (["--face-landmarker", str(pipe)], "pipe is a pipe or a device"),
    ):
        with pytest.raises(ValueError, match=words):
            run([tmp_path / "a.jpg"], *options)


@pytest.mark.filterwarnings("ignore")  # Pillow warns from half the limit on
def test_the_largest_picture_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("sheap_jax.data.photographs.MOST_PIXELS", 160 * 120)
    write_face(tmp_path / "a.jpg", RED)
    assert read_photograph(tmp_path / "a.jpg").shape == (120, 160, 3)
    write_face(tmp_path / "b.jpg", RED, scale=1.1)
    with pytest.raises(ValueError, match=r"b\.jpg states more than"):
        read_photograph(tmp_path / "b.jpg")
    assert np.log2(MOST_PIXELS) == 28
