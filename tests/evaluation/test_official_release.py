"""eval.py on the official release, converted from a stand-in of its outputs."""

import json

import pytest
from now_folder import GOOD, write_now_folder

pytest.importorskip("torch", reason="the release is a trace that only torch can read")

import eval as command
from tests.models.traced.tiny_release import write_release


def test_now(tiny_benchmark, tmp_path, capsys):
    """The report lies in the release's directory, as that of a run does, and the release can be converted again."""
    run = write_release(tmp_path) / "run"
    data = write_now_folder(tmp_path, tiny_benchmark)
    command.main(["--checkpoint", str(run), "--benchmark", "now", "--data", str(data), "--allow-missing"])
    assert "# now benchmark (now-validation)" in capsys.readouterr().out
    (report,) = json.loads((run / "evaluation/results.json").read_text())["reports"]
    assert len(report["missing"]) == 2
    assert len(list((run / "evaluation/now_submission").rglob("*.obj"))) == len(GOOD) + 1
    write_release(tmp_path)
