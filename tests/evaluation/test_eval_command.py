"""`sheap eval` as its user meets it; the network is one that knows the answers."""

import json

import pytest
from expressive_folder import write_expressive_folder
from now_folder import GOOD, write_now_folder
from tiny_benchmark import SIZE, FakePredictor

from sheap_jax.commands import eval as command
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError
from sheap_jax.data.embedded.dataset import generator_settings, settings_digest
from sheap_jax.evaluation.benchmarks import Task, run_benchmark
from sheap_jax.evaluation.embedded_set import VERSIONS, version_of
from sheap_jax.training.checkpoint import CheckpointError


@pytest.fixture
def predictor(tiny_benchmark, monkeypatch):
    class Known(FakePredictor):
        config = Config("known", image_size=SIZE)

    known = Known(tiny_benchmark.model, tiny_benchmark.params)
    monkeypatch.setattr(command.Predictor, "from_checkpoint", lambda checkpoint, *, step: known)
    return known


def test_several_benchmarks_are_one_report(predictor, tiny_benchmark, tmp_path, capsys):
    folders = {"now": write_now_folder, "expressive": write_expressive_folder}
    arguments = ["--checkpoint", str(tmp_path / "run"), "--benchmark", "expressive,now", "--allow-missing"]
    for name, write in folders.items():
        (tmp_path / name).mkdir()
        arguments += ["--data", f"{name}={write(tmp_path / name, tiny_benchmark)}"]
    command.main(arguments)
    printed = capsys.readouterr().out
    assert "# expressive benchmark (expressive-1)" in printed
    assert "# now benchmark (now-validation)" in printed
    written = tmp_path / "run/evaluation"
    posed, neutral = json.loads((written / "results.json").read_text())["reports"]
    assert (posed["benchmark"], neutral["benchmark"]) == ("expressive", "now")
    assert [len(report["missing"]) for report in (posed, neutral)] == [1, 2]
    assert {path.suffix for path in (written / "now_submission").rglob("IMG*")} == {".obj", ".npy"}
    assert len(list((written / "now_submission").rglob("*.obj"))) == len(GOOD) + 1
    command.main(["--compare", str(written / "results.json"), str(written / "results.json")])
    assert capsys.readouterr().out.count("no clear difference") == 8


def test_the_best_checkpoint_is_found(tmp_path, monkeypatch):
    (tmp_path / "checkpoints/7").mkdir(parents=True)
    (tmp_path / "checkpoints/9").mkdir()
    (tmp_path / "best.json").write_text('{"step": 7, "score": 1.5}')

    def load(checkpoint, *, step):
        raise CheckpointError(f"asked for {step}")

    monkeypatch.setattr(command.Predictor, "from_checkpoint", load)
    for asked, found in (("best", 7), ("9", 9)):
        with pytest.raises(CheckpointError, match=f"asked for {found}"):
            command.main(["--checkpoint", str(tmp_path), "--step", asked])
    with pytest.raises(SystemExit):
        command.main(["--checkpoint", str(tmp_path), "--step", "bst"])


def test_benchmarks_without_data_say_what_to_pass(predictor, tmp_path):
    task = Task(None, tmp_path, SIZE)
    for name in ("now", "expressive", "affectnet", "nersemble"):
        with pytest.raises(ValueError, match=f"--data {name}=PATH"):
            run_benchmark(name, predictor, task)
    with pytest.raises(ValueError, match="choose from embedded, clips, faces, now, expressive, nersemble, affectnet"):
        run_benchmark("ffhq", predictor, task)


def test_what_cannot_be_evaluated_is_said_before_anything_is_loaded(tmp_path, monkeypatch):
    def load(*_, **__):
        raise AssertionError("the run was read")

    monkeypatch.setattr(command.Predictor, "from_checkpoint", load)
    run = ["--checkpoint", str(tmp_path / "run")]
    for arguments, words in (
        (["--benchmark", "embedded,ffhq"], "there is no benchmark 'ffhq'; choose from embedded, clips"),
        (["--benchmark", "embedded,now"], "the benchmark now needs its data: pass --data now=PATH"),
        (["--benchmark", "embedded,now", "--data", f"now={tmp_path / 'no'}"], "no: there is no such file or folder"),
        (["--data", f"now={tmp_path}"], "now is not asked for"),
    ):
        with pytest.raises((ValueError, OSError), match=words):
            command.main([*run, *arguments])
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_said_before_it_is_made(predictor, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--checkpoint", str(tmp_path), "--output", str(tmp_path / "file" / "report")]
    with pytest.raises(OSError, match=r"file/report cannot be written to .*choose another folder"):
        command.main(arguments)


def test_a_step_that_is_not_there_and_runs_without_any(tmp_path):
    with pytest.raises(CheckpointError, match="is no run directory"):
        command.main(["--checkpoint", str(tmp_path)])
    (tmp_path / "config.json").write_text('{"stepps": 1}')
    with pytest.raises(ConfigError, match="no field 'stepps'; did you mean 'steps'"):
        command.main(["--checkpoint", str(tmp_path)])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"config\.json lacks name"):
        command.main(["--checkpoint", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_versions_of_generated_people(tiny_benchmark):
    """The digest is written out: a generator or setting that changes the people needs a new version beside this one."""
    assert settings_digest(generator_settings(VERSIONS["embedded-v1"])) == "129c5efc"
    found = version_of(tiny_benchmark.directory, "test")
    assert found.name.startswith("embedded-test-")
    assert found.settings == {"image_size": SIZE}
