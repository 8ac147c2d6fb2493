import json

import numpy as np
import pytest

from sheap_jax.commands import eval as command
from sheap_jax.evaluation.compare import CompareError, compare_files, paired_bootstrap
from sheap_jax.evaluation.report import BenchmarkReport, Comparison, PerImage, write_reports

PEOPLE = np.repeat([f"p{k}" for k in range(40)], 3)
IMAGES = [f"{person}/{k}" for k, person in enumerate(PEOPLE)]


def test_the_interval_is_that_of_the_mean_of_independent_images():
    """Everybody has one image: the normal approximation must agree."""
    rng = np.random.default_rng(0)
    first = rng.exponential(size=400)
    second = first + 0.1 + 0.3 * rng.normal(size=400)
    found = paired_bootstrap(first, second, np.arange(400))
    difference = second - first
    half = 1.96 * difference.std() / np.sqrt(400)
    assert found.difference == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    assert (found.images, found.people) == (400, 400)


def test_copies_of_an_image_make_nothing_more_certain():
    """Images of one person that all say the same count as one."""
    rng = np.random.default_rng(1)
    difference = rng.normal(size=40)
    single = paired_bootstrap(np.zeros(40), difference, np.arange(40))
    copied = paired_bootstrap(np.zeros(120), np.repeat(difference, 3), np.repeat(np.arange(40), 3))
    assert copied[:3] == pytest.approx(single[:3])


def test_images_without_a_number_are_left_out():
    first = np.array([1.0, 2.0, np.nan, 4.0])
    found = paired_bootstrap(first, np.array([2.0, np.nan, 3.0, 6.0]), np.array(["a", "b", "c", "d"]))
    assert (found.difference, found.images) == (1.5, 2)
    assert paired_bootstrap(first, first, np.array(["a", "a", "b", "a"])) is None  # one person is left


def _write(directory, errors, *, version="embedded-v1", images=IMAGES):
    rows = [
        Comparison("error", "mm", False, float(errors.mean()), "mean head", 2.0),
        Comparison("error", "mm", False, float(errors.mean()), "another baseline", 3.0),
        Comparison("PSNR", "dB", True, 20.0, "source", 19.0),
    ]
    people = [image.split("/")[0] for image in images]
    per_image = [PerImage(images, people, {"error": errors, "PSNR": 20 - errors})]
    report = BenchmarkReport("embedded", version, {"frames": len(images)}, rows, per_image)
    return write_reports([report], directory)[0]


def test_tables_side_by_side_say_which_is_better(tmp_path, capsys):
    errors = np.random.default_rng(0).exponential(size=len(IMAGES))
    first = _write(tmp_path / "slow/evaluation", errors)
    second = _write(tmp_path / "fast/evaluation", errors - 0.1)
    command.main(["--compare", str(first), str(second)])
    lines = capsys.readouterr().out.splitlines()
    assert "| quantity | slow | fast | mean difference per image, 95% interval | |" in lines
    expected = f"| error [mm] | {errors.mean():.3f} | {errors.mean() - 0.1:.3f} | -0.100 [-0.100, -0.100] | better |"
    assert lines.count(expected) == 1  # once, with whatever baselines
    assert any(line.startswith("| PSNR [dB] | 20.000 | 20.000 | +0.100") and "better" in line for line in lines)
    noise = np.random.default_rng(1).normal(size=len(IMAGES))
    third = _write(tmp_path / "noisy/evaluation", errors + noise - noise.mean())
    assert "no clear difference" in compare_files(first, third)


def test_only_common_images_are_compared(tmp_path):
    errors = np.arange(len(IMAGES), dtype=float)
    first = _write(tmp_path / "a", errors)
    some = list(range(len(IMAGES)))[::-2]
    second = _write(tmp_path / "b", errors[some] + 1, images=[IMAGES[k] for k in some])
    assert "+1.000 [+1.000, +1.000] | worse" in compare_files(first, second)


def test_other_versions_and_foreign_files_are_refused(tmp_path):
    errors = np.ones(len(IMAGES))
    first = _write(tmp_path / "a", errors)
    with pytest.raises(CompareError, match=r"embedded-v1.*embedded-v2.*different things"):
        compare_files(first, _write(tmp_path / "b", errors, version="embedded-v2"))
    (tmp_path / "c.json").write_text("{}")
    message = r"c\.json is no results\.json that `sheap eval` wrote: give RUN/evaluation/results\.json$"
    with pytest.raises(CompareError, match=message):
        compare_files(first, tmp_path / "c.json")
    (tmp_path / "d.json").write_text(json.dumps({"reports": []}))
    with pytest.raises(CompareError, match="no benchmark is in both"):
        compare_files(first, tmp_path / "d.json")
    with pytest.raises(FileNotFoundError):
        compare_files(first, tmp_path / "e.json")


@pytest.mark.parametrize(
    ("places", "benchmarks", "expected"),
    [
        ([], ["embedded"], {}),
        (["x"], ["now"], {"now": "x"}),
        (["now=x", "affectnet=a=b"], ["now", "affectnet"], {"now": "x", "affectnet": "a=b"}),
        (["odd=x"], ["now"], {"now": "odd=x"}),
    ],
)
def test_data_find_their_benchmark(places, benchmarks, expected):
    assert command.parse_data(places, benchmarks) == expected


@pytest.mark.parametrize(
    ("places", "benchmarks", "message"),
    [
        (["x"], ["now", "embedded"], "say whose data"),
        (["now=x", "now=y"], ["now"], "has data already"),
        (["affectnet=x"], ["now"], "is not asked for"),
    ],
)
def test_unclear_data_are_refused(places, benchmarks, message):
    with pytest.raises(ValueError, match=message):
        command.parse_data(places, benchmarks)
