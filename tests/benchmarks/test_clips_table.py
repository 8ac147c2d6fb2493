"""The table of runs on real clips says what their evaluations say."""

import json
from pathlib import Path

import pytest

from benchmarks import clips_table

ROOT = Path(__file__).parents[2]


def _write(directory: Path, shift: float, *, version: str = "clips-1", benchmark: str = "clips") -> Path:
    rows = [
        {"quantity": quantity, "unit": "dB", "ours": k + shift, "baseline": name, "baseline_value": value, "ratio": 1.0}
        for k, (quantity, (_, baseline)) in enumerate(clips_table.ROWS.items())
        for name, value in (("another", 9.0), (baseline, 7.0))
    ]
    report = {"benchmark": benchmark, "version": version, "counts": {"clips": 3}, "comparisons": rows}
    (directory / "evaluation").mkdir(parents=True)
    (directory / "evaluation/results.json").write_text(json.dumps({"reports": [report | {"per_image": ["name"]}]}))
    return directory


def test_columns_are_runs_and_the_file_names_no_picture(tmp_path):
    runs = {"a": _write(tmp_path / "a", 0.25), "b": _write(tmp_path / "b", 1.5)}
    results = clips_table.collect(runs)
    lines = clips_table.table(results).splitlines()
    assert lines[0] == "| held-out frames | a | b | baseline |"
    assert lines[3] == "| landmarks, eyes [dB] | 1.25 | 2.50 | mean head, 7.00 |"
    assert lines[7] == "| re-animation, face, PSNR [dB] | 5.2 | 6.5 | source image, 7.0 |"
    assert "name" not in json.dumps(results)
    assert clips_table.table(json.loads(json.dumps(results))).splitlines() == lines


def test_runs_on_other_frames_and_other_reports_are_refused(tmp_path):
    first = _write(tmp_path / "a", 0.0)
    with pytest.raises(ValueError, match="different frames: clips-1, clips-2"):
        clips_table.collect({"a": first, "b": _write(tmp_path / "b", 0.0, version="clips-2")})
    with pytest.raises(ValueError, match=r"no report of the benchmark clips: run `sheap eval"):
        clips_table.collect({"c": _write(tmp_path / "c", 0.0, benchmark="now")})


def test_the_page_of_results_shows_the_numbers_of_the_file():
    stored = ROOT / "benchmarks/results/clips.json"
    if not stored.exists():
        pytest.skip("no results are stored")
    table = clips_table.table(json.loads(stored.read_text()))
    page = (ROOT / "docs/results.md").read_text()
    assert table in page, "copy it: python benchmarks/clips_table.py --from benchmarks/results/clips.json"
