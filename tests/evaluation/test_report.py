import json
import math

import cv2
import numpy as np
import pytest

from sheap_jax.evaluation.report import (
    BenchmarkReport,
    Comparison,
    PerImage,
    markdown_table,
    short_table,
    write_reports,
)


@pytest.fixture
def report():
    rows = [
        Comparison("neutral heads, rigid, median", "mm", False, 0.9, "mean head", 1.2),
        Comparison("re-animation, face, SSIM", "", True, 0.8, "source image", 0.0),
    ]
    errors = np.random.default_rng(0).exponential(size=200)
    curves = {"neutral": {"ours": errors, "mean head": 2 * errors}, "expressive": {"ours": errors}}
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[1, 2] = (250, 10, 20)
    per_image = [PerImage(["a", "b"], ["ann", "bob"], {"landmarks": np.array([1.5, np.nan])})]
    return BenchmarkReport("embedded", "embedded-v1", {"frames": 1234}, rows, per_image, curves=curves, samples=picture)


def test_table_has_one_row_per_comparison_with_ratio_and_direction(report):
    lines = markdown_table(report).splitlines()
    assert "1,234 frames." in lines
    assert "| neutral heads, rigid, median [mm] ↓ | 0.900 | mean head | 1.200 | 0.75 |" in lines
    assert "| re-animation, face, SSIM ↑ | 0.800 | source image | 0.000 | nan |" in lines


def test_a_terminal_gets_the_main_rows_and_the_number_of_the_others(report):
    assert short_table(report) == markdown_table(report)
    short = short_table(report._replace(main_rows=[("neutral heads, rigid, median", "mean head")]))
    assert "neutral heads" in short
    assert "SSIM" not in short
    assert short.endswith("\nRows that results.md has besides: 1.\n")


def test_files_hold_what_the_report_says(report, tmp_path):
    paths = write_reports([report], tmp_path / "new" / "folder")
    names = ["results.json", "results.md", "embedded_cumulative_error.png", "embedded_samples.png"]
    assert [path.name for path in paths] == names
    (stored,) = json.loads(paths[0].read_text())["reports"]
    assert (stored["benchmark"], stored["version"]) == ("embedded", "embedded-v1")
    assert stored["per_image"] == [
        {"images": ["a", "b"], "people": ["ann", "bob"], "values": {"landmarks": [1.5, None]}}
    ]
    assert stored["counts"] == {"frames": 1234}
    assert math.isclose(stored["comparisons"][0]["ratio"], 0.75)
    assert stored["comparisons"][1]["ratio"] is None  # JSON has no NaN
    assert paths[1].read_text() == markdown_table(report)
    plot = cv2.imread(str(paths[2]))
    assert plot.shape[1] > plot.shape[0] > 100  # two panels
    assert plot.std() > 5
    np.testing.assert_array_equal(cv2.imread(str(paths[3]))[..., ::-1], report.samples)


def test_several_reports_are_one_file(report, tmp_path):
    rows = [Comparison("accuracy", "", True, 0.5)]
    bare = BenchmarkReport("affectnet", "affectnet-8", {}, rows, missing=[f"image {k}: no box" for k in range(25)])
    paths = write_reports([report._replace(samples=None), bare], tmp_path)
    assert [path.name for path in paths] == ["results.json", "results.md", "embedded_cumulative_error.png"]
    stored = json.loads(paths[0].read_text())["reports"]
    assert [one["benchmark"] for one in stored] == ["embedded", "affectnet"]
    assert stored[1]["comparisons"][0]["baseline_value"] is None
    assert len(stored[1]["missing"]) == 25
    text = paths[1].read_text()
    assert "| accuracy ↑ | 0.500 |  | |  |" in text
    assert "**25 missing" in text
    assert "- and 5 more" in text
    assert "image 20" not in text
