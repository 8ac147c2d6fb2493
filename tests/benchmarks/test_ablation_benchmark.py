"""The ablation's bookkeeping: which runs there are, and the table of their results. Nothing is trained."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from sheap_jax import config_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ablation(load):
    return load("ablation")


def test_variants_that_change_nothing_of_a_base_are_left_out_and_said(ablation, tmp_path, caplog):
    changes = {"seed": 3, "geometry_steps": 5, "steps": 7}
    with caplog.at_level(logging.INFO):
        group = ablation.variants_of("configs/small.py", ["mlp", "no_densification"], changes, tmp_path)
    assert list(group.runs) == ["full", "mlp"]
    assert "no_densification changes nothing" in caplog.text
    assert group.runs["mlp"].regressor.kind == "mlp"
    for name, config in group.runs.items():
        assert (config.seed, config.geometry_steps, config.steps) == (3, 5, 7)
        assert config.run_directory == str(tmp_path / name)


def test_table_has_mean_and_spread_over_seeds_and_the_baseline(ablation, tmp_path):
    values = {"full": [1.0, 1.2], "mlp": [1.4]}
    groups = []
    for seed in range(2):
        group = ablation.variants_of("configs/small.py", ["mlp"], {"seed": seed}, tmp_path / str(seed))
        groups.append(group)
        for name, config in group.runs.items():
            if seed < len(values[name]):
                row = {
                    "quantity": "landmarks",
                    "ours": values[name][seed],
                    "baseline": "mean head",
                    "baseline_value": 9,
                }
                file = ablation.results_file(config)
                file.parent.mkdir(parents=True)
                file.write_text(json.dumps({"reports": [{"comparisons": [row]}]}))
    rows = {line.split("|")[1].strip(): line for line in ablation.markdown(ablation.collect(groups)).splitlines()}
    assert f"1.100 ± {np.std([1.0, 1.2], ddof=1):.3f}" in rows["full"]
    assert "1.400 |" in rows["mlp"]
    assert "9.000 ± 0.000" in rows["(mean head)"]


def test_runs_of_other_settings_are_not_taken_for_finished(ablation, tmp_path):
    group = ablation.variants_of("configs/small.py", [], {}, tmp_path)
    other = ablation.variants_of("configs/small.py", [], {"losses.depth": 0.9}, tmp_path)
    (tmp_path / "full").mkdir()
    config_files.save_json(other.base, tmp_path / "full" / "config.json")
    with pytest.raises(config_files.ConfigError, match="other settings"):
        list(ablation.run_group(group, tmp_path))


def test_differences_pair_the_images_of_one_seed(ablation, tmp_path):
    """Images differ by much more than variants do: only their differences tell the variants apart."""
    quantity, generator = "landmarks", np.random.default_rng(0)
    people = [f"p{k // 2}" for k in range(40)]
    images = [f"i{k}" for k in range(40)]
    groups = []
    for seed in range(2):
        groups.append(ablation.variants_of("configs/small.py", ["mlp", "cnn"], {"seed": seed}, tmp_path / str(seed)))
        hard = generator.uniform(0, 10, 40)
        values = {"full": hard, "mlp": hard + 0.3 + 0.1 * generator.normal(size=40)}  # cnn has not run
        for name, numbers in values.items():
            row = {"quantity": quantity, "ours": numbers.mean(), "baseline": "mean head", "baseline_value": 9.0}
            scores = {"images": images, "people": people, "values": {quantity: numbers.tolist()}}
            report = {"benchmark": "embedded", "version": "v1", "comparisons": [row], "per_image": [scores]}
            file = ablation.results_file(groups[-1].runs[name])
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps({"reports": [report]}))
    found = ablation.differences(groups)
    assert list(found) == ["mlp"]
    interval = found["mlp"][quantity]
    assert (interval.images, interval.people) == (80, 20)
    assert interval.low < 0.3 < interval.high
    assert interval.high - interval.low < 0.1
    ablation.write(groups, tmp_path)
    assert "| **+0." in (tmp_path / "ablation.md").read_text()
    assert (tmp_path / "ablation.png").stat().st_size > 1000


@pytest.mark.parametrize("results", ["ablation_small", "ablation_small_seed2", "ablation_ict"])
def test_the_documented_tables_are_those_of_the_results(ablation, results):
    found = json.loads((ROOT / f"benchmarks/results/{results}.json").read_text())
    minus_full = {
        name: {quantity: ablation.Interval(**interval) for quantity, interval in intervals.items()}
        for name, intervals in found["minus_full"].items()
    }
    shown = (ROOT / "docs/experiments/ablation.md").read_text()
    assert ablation.markdown(found["values"]) in shown
    assert ablation.differences_markdown(minus_full) in shown


def test_the_supervised_ceiling_is_no_variant(ablation, monkeypatch, capsys):
    """The common first phase would not be told the truth."""
    monkeypatch.setattr("sys.argv", ["ablation.py", "--variants", "supervised"])
    with pytest.raises(SystemExit):
        ablation.main()
    said = capsys.readouterr().err
    assert "there is no variant supervised; choose from cnn, " in said
