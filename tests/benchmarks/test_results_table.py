"""README states what was measured: its table is the one that the JSON files give."""

import json
from pathlib import Path

import pytest

from benchmarks import results_table

ROOT = Path(__file__).parents[2]


def test_readme_shows_the_table_of_the_results():
    shown = results_table.shown((ROOT / "README.md").read_text())
    if shown is None:
        pytest.skip(f"README.md has no lines {results_table.START} and {results_table.END}")
    assert shown == results_table.table(), "run: python benchmarks/results_table.py --write README.md"


def _comparison(quantity, baseline, ours, value, unit="mm"):
    numbers = {"ours": ours, "baseline_value": value, "ratio": ours / value}
    return {"quantity": quantity, "unit": unit, "baseline": baseline, **numbers}


def test_rows_show_values_ratios_and_common_baselines(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "ROWS", [results_table.Row("a", "mean head"), results_table.Row("b", "own")])
    monkeypatch.setattr(results_table, "RUNS", ("quickstart", "small"))
    for run, factor in (("quickstart", 1.0), ("small", 0.5)):
        rows = [_comparison("a", "other", 9, 9), _comparison("a", "mean head", factor, 2.0)]
        rows.append(_comparison("b", "own", 1.0, 4 * factor, "px"))
        reports = [{"version": "embedded-v0", "comparisons": []}, {"version": "embedded-v1", "comparisons": rows}]
        (tmp_path / f"{run}_embedded-v1.json").write_text(json.dumps({"reports": reports}))
    measured = {results_table.SHARED: {"share": [0.5, 0.7]}}
    (tmp_path / "supervised_share_small.json").write_text(json.dumps({"values": measured}))
    lines = results_table.table(tmp_path).splitlines()
    assert lines[2:] == [
        "| a | 1.00 mm (0.50) | 0.50 mm (0.25) | mean head, 2.00 mm |",
        "| b | 1.00 px (0.25) | 1.00 px (0.50) | own |",
        f"| share of the supervised gain, {results_table.SHARED} |  | 0.60 ± 0.14 | told the true shapes, 1 |",
    ]


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"reports": [{"version": "embedded-v2"}]}))
    with pytest.raises(ValueError, match=r"a\.json holds no report of embedded-v1"):
        results_table.load_report(path)


def test_the_stored_results_are_complete():
    """Every row finds its number in the files of the repository."""
    assert results_table.table().count("\n") == 3 + len(results_table.ROWS)
