"""`sheap` as its user meets it: help, mistakes, configurations by name, from a folder that is not the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sheap_jax
from sheap_jax import command_line, config_files
from sheap_jax.commands import __main__ as sheap
from sheap_jax.commands.convert import HEADS, WEIGHTS
from sheap_jax.config_files import ConfigError
from sheap_jax.training.checkpoint import CheckpointError

ROOT = Path(__file__).parents[2]
PAGES = [[name] for name in sheap.COMMANDS] + [["convert", what] for what in (*HEADS, *WEIGHTS)]


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """`sheap ...` in a process of its own, in `folder`, with a cache beside it."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu"}
    environment |= {"XDG_CACHE_HOME": str(folder.parent / "cache")} | variables
    command = [sys.executable, "-m", "sheap_jax.commands", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def in_folder(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def keep_environment(monkeypatch):
    """What a command sets for its own process does not stay for the tests that follow."""
    monkeypatch.setattr(command_line, "silence_libraries", lambda: None)
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_help_shows_a_line_that_can_be_typed(words, in_folder, capsys):
    with pytest.raises(SystemExit) as stop:
        sheap.main([*words, "--help"])
    page = capsys.readouterr().out
    assert stop.value.code == 0
    assert page.startswith(f"usage: sheap {words[0]} ")
    assert f"\n    sheap {words[0]}" in page, "no example"
    assert "python" not in page
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_option_says_what_it_is(words, monkeypatch, capsys):
    parsers = []
    make = command_line.argparse.ArgumentParser.parse_known_args
    monkeypatch.setattr(
        command_line.argparse.ArgumentParser,
        "parse_known_args",
        lambda self, *a: parsers.append(self) or make(self, *a),
    )
    with pytest.raises(SystemExit):
        sheap.main([*words, "--help"])
    assert parsers
    assert [action.dest for action in parsers[-1]._actions if not action.help] == []


def test_defaults_are_stated(capsys):
    with pytest.raises(SystemExit):
        sheap.main(["predict", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    for text in ("(default: params,overlay)", "seconds (default: 10.0)", "rest (default: 1.5)"):
        assert text in page


def test_help_of_train_lists_the_fields_of_the_configuration_that_is_named(capsys):
    with pytest.raises(SystemExit):
        sheap.main(["train", "--config", "small", "--help", "--config.seed=7"])
    page = " ".join(capsys.readouterr().out.split())
    small = config_files.load_file("small")
    assert f"--config.steps={small.steps} " in page
    assert "--config.seed=7 " in page
    assert "batch_size=8 pairs per step, over all devices" in page  # the comment in config.py
    assert "Slots per face on average; inactive ones cost time but show nothing." in page  # the line above


def test_what_help_shows_can_be_typed(capsys):
    """Every field and value of the page gives the same configuration again."""
    with pytest.raises(SystemExit):
        sheap.main(["train", "--config", "clip", "--help"])
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --config.")]
    assert len(lines) > 80
    unquoted = [line.replace('"', "") for line in lines]
    assert config_files.parse_arguments(unquoted, default="quickstart", description="") == config_files.load_file(
        "clip"
    )


def test_the_first_page_and_mistakes_load_nothing(folder):
    code = "import sys; from sheap_jax.commands.__main__ import main\ntry: main(sys.argv[1:])\nfinally: "
    code += "assert not {'jax', 'numpy', 'flax'} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    for words, code_of, text in (
        ([], 0, "usage: sheap COMMAND"),
        (["--help"], 0, "compile-report"),
        (["--version"], 0, sheap_jax.__version__),
        (["trian"], 1, "sheap: there is no command 'trian'; did you mean `sheap train`?"),
        (["xyz"], 1, "there are: train, eval, predict"),
    ):
        command = [sys.executable, "-c", code, *words]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        assert result.returncode == code_of, result.stderr
        assert text in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quickstart", "quickstart.py"),
        ("small.py", "small.py"),
        ("configs/small.py", "small.py"),
        ("ablations/mlp", "ablations/mlp.py"),
        ("configs/ablations/mlp.py", "ablations/mlp.py"),
    ],
)
def test_configurations_are_found_by_name_from_any_folder(name, file, in_folder):
    assert config_files.find_file(name) == ROOT / "configs" / file
    assert config_files.load_file(name) == config_files.load_file(ROOT / "configs" / file)


@pytest.mark.parametrize("name", ["ablations/mlp:quickstart", "configs/ablations/mlp.py:configs/quickstart.py"])
def test_a_base_is_found_by_name_as_well(name, in_folder):
    config = config_files.load_file(name)
    assert (config.name, config.regressor.kind) == ("quickstart-mlp", "mlp")


def test_a_file_of_ones_own_comes_first_and_a_folder_does_not_hide_a_name(in_folder):
    (in_folder / "small").mkdir()
    (in_folder / "configs").mkdir()
    for file in ("mine.py", "configs/small.py"):
        (in_folder / file).write_text(
            "from sheap_jax.config import Config\ndef get_config():\n    return Config('own')\n"
        )
    assert config_files.load_file("mine.py").name == "own"
    assert config_files.load_file("configs/small.py").name == "own"
    assert config_files.load_file("small").name == "small"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quickstrat", "there is no configuration 'quickstrat'; did you mean 'quickstart'"),
        ("mlp", "did you mean 'ablations/mlp'"),
        ("xyz", "by name there are base, clip, quickstart"),
        ("../train.py", "there is no configuration file"),
    ],
)
def test_a_name_that_is_none_is_answered_with_those_that_are(name, message, in_folder):
    with pytest.raises(ConfigError, match=message):
        config_files.load_file(name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--config", "nothing"], "error: there is no configuration 'nothing'"),
        (["train", "--config.image_size=97"], "error: config.image_size is 97"),
        (["train", "--config", "clip"], "assets/ict.npz"),
        (["eval", "--checkpoint", "runs/none"], "runs/none is no run directory"),
        (["eval", "--compare", "a.json", "b.json"], "a.json"),
        (["predict", "a.jpg", "--checkpoint", "runs/none", "--output", "out", "--cropped"], "runs/none"),
        (["prepare", "nowhere", "--output", "out/shards", "--landmarks", "none.npz"], "nowhere"),
        (["convert", "ict", "nowhere", "out/ict.npz"], "nowhere"),
        (["convert", "farl", "none.pth", "out/farl.npz"], "none.pth does not exist"),
        (["convert", "official", "none.pt", "out/run", "--morphable", "flame.npz"], "none.pt does not exist"),
        (["avatar", "runs/none", "a.jpg", "out/a.npz", "--cropped"], "runs/none"),
        (["reenact", "a.npz", "b.npz", "out/a.mp4"], "a.npz"),
        (["view", "a.npz"], "a.npz"),
        (["export", "runs/none", "out/a.stablehlo"], "runs/none"),
        (["now", "predictions", "now", "--output", "out"], "now"),
        (["generate", "people", "--train-identities", "0"], "train_identities is 0"),
        (["summary", "nothing"], "there is no configuration 'nothing'"),
        (["compile-report", "nothing"], "there is no configuration 'nothing'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_refused_start_says_why_and_leaves_nothing(words, message, in_folder, capsys):
    with pytest.raises(SystemExit) as stop:
        sheap.main(words)
    written = capsys.readouterr().err if isinstance(stop.value.code, int) else str(stop.value.code)
    assert stop.value.code not in (0, None)
    assert message in written
    assert len(written.splitlines()) == 1
    assert list(in_folder.iterdir()) == []


def test_a_refused_start_prints_one_line(folder):
    words = ["predict", "a.jpg", "--checkpoint", "runs/none", "--output", "out", "--cropped"]
    result = run(*words, folder=folder)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: runs/none is no run directory")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert list(folder.iterdir()) == []


def test_verbose_may_stand_anywhere_and_shows_where_an_error_came_from():
    for words in (["-v", "eval", "--checkpoint", "none"], ["eval", "-v", "--checkpoint", "none"]):
        with pytest.raises(CheckpointError, match="none is no run directory"):
            sheap.main(words)


def test_the_scripts_of_the_checkout_are_the_same_command(folder):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu"}
    for name in ("train", "eval", "predict"):
        command = [sys.executable, ROOT / f"{name}.py", "--help"]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        assert result.stdout.startswith(f"usage: sheap {name} ")


def test_programs_are_kept_in_the_users_cache_or_where_the_variable_says(folder, monkeypatch):
    monkeypatch.undo()
    for variables, place in (
        ({}, folder / "sheap-jax/xla"),
        ({"JAX_COMPILATION_CACHE_DIR": "elsewhere"}, "elsewhere"),
    ):
        monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(folder)} | variables)
        command_line.keep_compiled_programs()
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(place)
