"""The share of the supervised gain: which runs are compared, and the arithmetic, without any training."""

import json

import pytest

from sheap_jax import config_files


@pytest.fixture
def script(load, monkeypatch):
    """The benchmark, with a training and an evaluation that only leave their files."""
    script = load("supervised_share")
    error = {0.0: 1.2, 0.01: 1.0}  # by the weight of the truth

    def train(config):
        script.Path(config.run_directory).mkdir(parents=True)
        config_files.save_json(config, script.Path(config.run_directory) / "config.json")

    def evaluate(run, *, data):
        assert data == {}  # embedded-v1
        config = config_files.load_json(script.Path(run) / "config.json")
        ours = error[config.losses.true_shape] + 0.1 * config.seed
        rows = [
            {"quantity": quantity, "baseline": baseline, "ours": ours, "baseline_value": value}
            for quantity in ("landmarks", *script.QUANTITIES)
            for baseline, value in (("another", 9.0), ("mean head", 1.4))
        ]
        (script.Path(run) / "evaluation").mkdir()
        (script.Path(run) / "evaluation" / "results.json").write_text(
            json.dumps({"reports": [{"comparisons": rows}]}, indent=1)
        )

    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(script, "evaluate", evaluate)
    return script


def start(script, monkeypatch, *arguments) -> None:
    monkeypatch.setattr("sys.argv", ["supervised_share.py", *map(str, arguments)])
    script.main()


def test_each_seed_has_a_run_with_the_truth_and_one_without(script, monkeypatch, tmp_path, capsys):
    output = tmp_path / "share"
    start(script, monkeypatch, "--seeds", 2, "--output", output)
    told, untold = (
        config_files.load_json(output / "seed1" / name / "config.json") for name in ("supervised", "method")
    )
    assert (told.losses.true_shape, untold.losses.true_shape) == (0.01, 0.0)
    changed = {"losses.true_shape": untold.losses.true_shape, "name": untold.name}
    changed["log.directory"] = untold.log.directory
    for field, value in changed.items():
        told = config_files.replace(told, field.split("."), value)
    assert told == untold

    values = json.loads((output / "share.json").read_text())["values"]
    for quantity in script.QUANTITIES:
        assert values[quantity]["method"] == pytest.approx([1.2, 1.3])
        assert values[quantity]["share"] == pytest.approx([0.2 / 0.4, 0.1 / 0.3])
    assert "| 1.400 | 1.250 ± 0.071 | 1.050 ± 0.071 | 0.417 ± 0.118 |" in capsys.readouterr().out


def test_runs_that_are_there_are_not_trained_again(script, monkeypatch, tmp_path, capsys):
    output = tmp_path / "share"
    start(script, monkeypatch, "--seeds", 1, "--output", output)
    capsys.readouterr()
    for name in ("train", "evaluate"):
        monkeypatch.setattr(script, name, lambda *_, **__: pytest.fail("computed again"))
    start(script, monkeypatch, "--seeds", 1, "--output", output)
    assert "0.500" in capsys.readouterr().out
    start(script, monkeypatch, "--seeds", 3, "--output", output, "--collect")
    assert "0.500" in capsys.readouterr().out
    with pytest.raises(config_files.ConfigError, match="other settings"):
        start(script, monkeypatch, "--seeds", 1, "--output", output, "--true-shape", 0.5)
