"""Configurations: overrides, typos, wrong types, JSON."""

import dataclasses
from pathlib import Path

import pytest

from sheap_jax import config_files
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "configs/quickstart.py")


def parse(*arguments: str) -> Config:
    return config_files.parse_arguments(list(arguments), default=QUICKSTART, description="")


def test_overrides_reach_nested_fields():
    config = parse("--config.steps=50", "--config.losses.ssim", "0.25", "--config.data.flip=false")
    assert (config.steps, config.losses.ssim, config.data.flip) == (50, 0.25, False)


def test_whole_numbers_are_accepted_for_floats_and_none_for_optional_parts():
    config = parse("--config.losses.l1=2", "--config.data.embedded=none")
    assert config.losses.l1 == 2.0
    assert isinstance(config.losses.l1, float)
    assert config.data.embedded is None


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.stepps=5", ["stepps", "did you mean 'steps'"]),
        ("--config.losses.sim=5", ["config.losses", "'ssim'"]),
        ("--config.steps=many", ["config.steps", "int", "many"]),
        ("--config.steps=1.5", ["config.steps", "int", "1.5"]),
        ("--config.data.flip=1", ["config.data.flip", "bool"]),
        ("--config.steps.more=1", ["config.steps", "no field"]),
        ("--config.data=1", ["config.data", "Data"]),
        ("--config.steps", ["needs a value"]),
        ("--steps=5", ["unknown argument", "--config."]),
    ],
)
def test_mistakes_are_named(argument, words):
    with pytest.raises(ConfigError) as caught:
        parse(argument)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_lists_those_that_exist():
    with pytest.raises(ConfigError, match=r"quickstart\.py"):
        config_files.load_file(ROOT / "configs/quickstrat.py")


def test_json_round_trip(tmp_path):
    config = parse("--config.seed=3", "--config.data.embedded.seed=9")
    config_files.save_json(config, tmp_path / "config.json")
    assert config_files.load_json(tmp_path / "config.json") == config


def test_json_with_an_unknown_field_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "x", "losses": {"perceptul": 1}}')
    with pytest.raises(ConfigError, match="perceptul"):
        config_files.load_json(tmp_path / "config.json")


def test_a_removed_field_in_an_old_run_is_ignored_unless_it_changed_the_run(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"name": "x", "losses": {"l1": 2.0, "position_share": 1.0}}')
    config = config_files.load_file(file)
    assert config == dataclasses.replace(Config("x"), losses=dataclasses.replace(Config("x").losses, l1=2.0))
    file.write_text('{"name": "x", "losses": {"position_share": 0.2}}')
    with pytest.raises(ConfigError, match=r"config\.json\.losses\.position_share is 0\.2.*removed"):
        config_files.load_file(file)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("**/*.py")), ids=lambda p: p.name)
def test_every_configuration_loads(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert config_files.load_file(path).steps > 0


def test_an_ablation_changes_one_thing_of_any_base():
    config = config_files.load_file(f"{ROOT / 'configs/ablations/mlp.py'}:{QUICKSTART}")
    base = config_files.load_file(QUICKSTART)
    assert config.regressor.kind == "mlp"
    assert config.name == "quickstart-mlp"
    changed = dataclasses.replace(base, name=config.name, regressor=dataclasses.replace(base.regressor, kind="mlp"))
    assert config == changed


def test_a_base_for_a_file_that_takes_none_is_refused():
    with pytest.raises(ConfigError, match="changes no other configuration"):
        config_files.load_file(f"{QUICKSTART}:{QUICKSTART}")


def test_text_fields_take_any_text():
    assert parse("--config.light=none").light == parse("--config.light", "none").light == "none"  # a prior's name
    config = parse("--config.name=123", "--config.log.directory=none", "--config.weights.lpips=1e5")
    assert (config.name, config.log.directory, config.weights.lpips) == ("123", "none", "1e5")


def test_a_runs_stored_configuration_can_be_trained_with(tmp_path):
    config = parse("--config.seed=3")
    config_files.save_json(config, tmp_path / "config.json")
    assert parse("--config", str(tmp_path / "config.json"), "--config.steps=5") == dataclasses.replace(config, steps=5)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", r"mine\.py, line 1: SyntaxError: "),
        ("\nimport no_such_module\n", r"mine\.py, line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("from sheap_jax.config import Config\ndef get_config():\n    return Config('a', stepps=3)\n",
         r"mine\.py, line 3: TypeError: .*unexpected keyword argument 'stepps'"),
        ("def get_config():\n    return 3\n", r"get_config\(\) of .*mine\.py returns int, not"),
        ("x = 3\n", r"mine\.py defines no get_config\(\)"),
        ("def get_config(base):\n    return base\n", r"changes another configuration: pass it as .*mine\.py:BASE\.py"),
        ("from sheap_jax.config import Config\ndef get_config():\n    return Config('a', steps='5')\n",
         r"config\.steps must be int, not '5'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_python_file_are_one_line(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config_files.load_file(tmp_path / "mine.py")
    assert "\n" not in str(caught.value)


def test_files_of_another_kind_are_no_configurations(tmp_path):
    (tmp_path / "config.toml").write_text("steps = 3")
    with pytest.raises(ConfigError, match=r"config\.toml is no configuration: it must be a \.py"):
        config_files.load_file(tmp_path / "config.toml")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"config\.json must be Config, not \[\]"):
        config_files.load_file(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"is a folder: a run's configuration is .*config\.json"):
        config_files.load_file(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match="is a folder: name a file in it"):
        config_files.load_file(tmp_path)
    with pytest.raises(ConfigError, match="there is no configuration file"):
        config_files.load_file(tmp_path / "none.py")
