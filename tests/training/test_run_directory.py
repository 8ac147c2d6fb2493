"""Who may write to a run directory, and what a start may change of a run's configuration."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sheap_jax import config_files
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError
from sheap_jax.files.one_writer import InUseError
from sheap_jax.training import run_directory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path) -> Config:
    return Config("here", steps=100, log=replace(Config("").log, directory=str(tmp_path / "runs" / "{name}")))


@pytest.fixture
def finished(config) -> Path:
    """A run directory with a checkpoint of step 50, as far as a start looks at it."""
    with run_directory.claim(config) as run:
        run.begin(0)
    (run.path / "checkpoints" / "50").mkdir(parents=True)
    return run.path


def start(config: Config, step: int = 50) -> None:
    with run_directory.claim(config) as run:
        run.begin(step)


def test_every_field_that_may_change_exists(config):
    for name in run_directory.MAY_CHANGE:
        value = config
        for part in name.split("."):
            value = getattr(value, part)


def test_what_may_change_is_written_beside_the_stored_configuration(config, finished):
    stored = (finished / "config.json").read_bytes()
    log = replace(config.log, metrics_every=1, directory=str(finished))
    longer = replace(config, steps=200, log=log, devices=replace(config.devices, heartbeat_seconds=5))
    for changed in (longer, longer, replace(longer, steps=300), config):
        start(changed)
    assert (finished / "config.json").read_bytes() == stored
    rows = [json.loads(line) for line in (finished / "changes.jsonl").read_text().splitlines()]
    assert [row["changes"].get("steps") for row in rows] == [[100, 200], [100, 300], None]  # the same once
    assert rows[0]["changes"]["devices.heartbeat_seconds"] == [30, 5]


def test_a_line_of_changes_that_was_cut_off_costs_no_start(config, finished):
    """It was read as JSON by hand: the run could not go on, with a traceback."""
    longer = replace(config, steps=200)
    start(longer)
    with (finished / "changes.jsonl").open("a") as file:
        file.write('{"step": 60, "chan')
    start(replace(longer, steps=300))
    rows = [json.loads(line) for line in (finished / "changes.jsonl").read_text().splitlines()]
    assert [row["changes"]["steps"] for row in rows] == [[100, 200], [100, 300]]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 7},
        {"name": "there"},
        {"geometry_steps": 5},
        {"morphable": "embedded:fine"},
        {"light": "none"},
        {"estimator": {"bfloat16": True}},
        {"losses": {"l1": 0.5}},
        {"optimizer": {"muon": True}},
        {"prototypes": {"densify_every": 10}},
        {"data": {"embedded": None}},
        {"data": {"flip": False}},
        {"weights": {"lpips": "lpips.npz"}},
    ],
    ids=str,
)
def test_all_else_is_refused_by_name(config, finished, change):
    stored = (finished / "config.json").read_bytes()
    (name, value), *_ = change.items()
    other = replace(config, **{name: replace(getattr(config, name), **value) if isinstance(value, dict) else value})
    other = replace(other, log=replace(other.log, directory=str(finished)))
    field = f"config.{name}" + (f".{next(iter(value))}" if isinstance(value, dict) else "")
    with pytest.raises(ConfigError, match=rf"holds a run of another configuration: {field}.* there, .* here") as caught:
        start(other)
    assert f"--config {finished / 'config.json'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (finished / "config.json").read_bytes() == stored
    start(config_files.load_file(finished / "config.json"))  # the way out that the message names


def test_without_a_checkpoint_there_is_nothing_to_keep(config):
    start(config, 0)
    start(replace(config, seed=7), 0)
    assert config_files.load_json(Path(config.run_directory) / "config.json").seed == 7


def test_a_damaged_stored_configuration_is_named(config, finished):
    (finished / "config.json").write_text('{"name": ')
    with pytest.raises(ConfigError, match=r"config\.json holds no readable configuration"):
        start(config)


def test_checkpoints_without_a_configuration_are_not_relabelled(config, finished):
    (finished / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has checkpoints but no config\.json"):
        start(dataclasses.replace(config, seed=7))
    assert not (finished / "config.json").exists()


def test_only_what_a_refused_start_made_is_removed(config, tmp_path):
    def refuse(run: run_directory.RunDirectory) -> None:
        (run.path / "checkpoints").mkdir()
        raise ValueError("no such thing")

    with pytest.raises(ConfigError, match="no such thing"), run_directory.claim(config) as run:
        refuse(run)
    assert not (tmp_path / "runs").exists()
    Path(config.run_directory).mkdir(parents=True)
    (Path(config.run_directory) / "mine.txt").write_text("")
    with pytest.raises(KeyboardInterrupt), run_directory.claim(config):
        raise KeyboardInterrupt
    assert (Path(config.run_directory) / "mine.txt").exists()


def test_an_error_of_the_training_stays_what_it_is(config):
    def fail(run: run_directory.RunDirectory) -> None:
        run.begin(0)
        raise ValueError("shapes")

    with pytest.raises(ValueError, match="shapes") as caught, run_directory.claim(config) as run:
        fail(run)
    assert not isinstance(caught.value, ConfigError)
    assert (run.path / "config.json").exists()


def test_two_trainings_do_not_write_to_one_run(config, tmp_path):
    pytest.importorskip("fcntl", reason="locks of files are tested where the system has POSIX's")
    config_files.save_json(config, tmp_path / "config.json")
    program = (
        "import sys\nfrom sheap_jax import config_files\nfrom sheap_jax.training import run_directory\n"
        f"with run_directory.claim(config_files.load_json({str(tmp_path / 'config.json')!r})) as run:\n"
        "    run.begin(0)\n    print('has it', flush=True)\n    sys.stdin.read()\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(ConfigError, match=r"is written to by process \d+ on .*, or train beside it"):
            start(config)
        other.kill()
        other.wait()
        start(config)


def test_fields_are_compared_by_value(config):
    assert config_files.differences(config, dataclasses.replace(config)) == {}
    without = replace(config, data=replace(config.data, embedded=None))
    assert config_files.differences(config, without)["data.embedded.seed"] == (0, None)


def test_what_another_start_has_made_at_the_same_moment_stays(config, monkeypatch):
    """Neither finds the directory; the slower one is refused, and must not remove what is no longer its own."""

    def taken(path, *, way_out):
        (path / "checkpoints").mkdir()
        raise InUseError("somebody was faster")

    monkeypatch.setattr(run_directory, "one_writer", taken)
    with pytest.raises(ConfigError, match="somebody was faster"):
        start(config)
    assert (Path(config.run_directory) / "checkpoints").exists()
