"""Values that a configuration cannot have, each said in one line with the field, the value and what is allowed."""

import dataclasses
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from sheap_jax import config_files
from sheap_jax.config import Config, EmbeddedData, Range
from sheap_jax.config_checks import check_config
from sheap_jax.config_files import ConfigError
from sheap_jax.data.embedded.settings import check_embedded

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "configs/quickstart.py")

# The field and the value, and words of the message besides them.
WRONG = {
    "image_size=97": "96 or 112",
    "image_size=8": "at least 16",
    "batch_size=0": "at least 1",
    "batch_size=-4": "at least 1",
    "seed=-1": "from 0",
    "seed=99999999999999999999": "from 0",
    "steps=-1": "at least 0",
    "geometry_steps=-1": "at least 0",
    "rasterizer=cuda": "None, reference, xla",
    "morphable=embedded:finest": "embedded:coarse, embedded:fine",
    "name=": "name the run's directory",
    "log.directory={nam}": "{name}",
    "log.directory=runs/{": "{name}",
    "log.metrics_every=-1": "at least 0",
    "log.keep_checkpoints=0": "at least 1",
    "regressor.uv_size=48": "8, 16, 32, 64",
    "regressor.uv_size=2": "at least 4",
    "regressor.uv_channels=0": "at least 1",
    "regressor.uv_widest=30": "multiples of 4",
    "regressor.kind=gnn": "graph, mlp, cnn",
    "regressor.attention_size=-1": "at least 0",
    "regressor.graph_depth=0": "at least 1",
    "estimator.free_joints=()": "at least one",
    "estimator.free_joints=('root','root')": "each once",
    "estimator.width=100": "estimator.heads 3",
    "estimator.heads=0": "at least 1",
    "estimator.patch=12": "4, 8, 16",
    "estimator.patch=0": "at least 1",
    "estimator.style=clip": "plain, farl",
    "estimator.light_components=28": "from 1 to 27",
    "prototypes.per_face=7": "from 1 to 6",
    "prototypes.capacity_per_face=0.5": "from 1 to 6",
    "prototypes.densify_share=1.5": "from 0 to 1",
    "prototypes.densify_every=-5": "at least 0",
    "optimizer.learning_rate=-0.1": "at least 0",
    "optimizer.learning_rate=1e999": "finite",
    "optimizer.learning_rate=nan": "learning_rate is nan, it must be finite",
    "losses.ssim=-inf": "ssim is -inf, it must be finite",
    "optimizer.accumulate=0": "at least 1",
    "optimizer.clip_norm=0": "more than 0",
    "optimizer.final_share=2": "from 0 to 1",
    "devices.heartbeat_seconds=0": "at least 1",
    "faults.explosion=1": "more than 1",
    "faults.stall_seconds=0": "more than 0",
    "faults.compile_seconds=0": "more than 0",
    "log.validate_every=-1": "at least 0",
    "data.workers=-1": "at least 0",
    "data.color_jitter=2": "from 0 to 1",
    "data.crop_jitter=1": "from 0 to 0.5",
    "data.max_bad_share=-0.1": "from 0 to 1",
    "data.embedded.frames_per_clip=1": "a pair takes two frames",
    "data.embedded.train_identities=0": "at least 1",
    "data.embedded.people=embedded:x": "embedded:coarse, embedded:fine",
    "data.embedded.supersampling=0": "from 0.5 to 8",
    "data.embedded.missing_landmarks=2": "from 0 to 1",
    "data.embedded.truth_splits=('val',)": "train and test",
    "data.embedded.truth_splits=('train',)": "lacks 'test'",
    "data.embedded.processes=0": "at least 1",
    "losses.ssim=-1": "at least 0",
    "losses.mean_share=1.1": "from 0 to 1",
}
# The same where the message is about two fields.
TOGETHER = {
    "data.embedded=none": "{settings} is for generated clips",
    "devices.fsdp=2": "flat_moments=False",
    "optimizer.accumulate=3": "config.batch_size is 8",
    "prototypes.per_face=2": "capacity_per_face is 1.0",
    "estimator.heads=5": "config.estimator.width is 96",
}
OTHER_PEOPLE = ("morphable=ict.npz", "losses.true_shape=0.1"), ("data.embedded.people=ict.npz", "losses.true_shape=0.1")


def parse(*arguments: str) -> Config:
    return config_files.parse_arguments([f"--config.{one}" for one in arguments], default=QUICKSTART, description="")


@pytest.mark.parametrize("argument", WRONG)
def test_a_wrong_value_is_one_line(argument):
    field = argument.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        check_config(parse(argument))
    message = str(caught.value)
    assert f"config.{field}" in message or field == "regressor.uv_widest"
    assert WRONG[argument] in message
    assert "\n" not in message


@pytest.mark.parametrize("argument", TOGETHER)
def test_values_that_do_not_go_together(argument):
    with pytest.raises(ConfigError) as caught:
        check_config(parse(argument))
    assert TOGETHER[argument] in str(caught.value)


@pytest.mark.parametrize("arguments", OTHER_PEOPLE)
def test_a_true_shape_is_of_the_fitted_model(arguments):
    with pytest.raises(ConfigError, match=r"losses\.true_shape is 0\.1, .*ict\.npz"):
        check_config(parse(*arguments))
    check_config(parse("losses.true_shape=0.1"))
    check_config(parse("losses.true_shape=0.1", "morphable=ict.npz", "data.embedded.people=ict.npz"))


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"config\.batch_size is 0.*; config\.losses\.l1 is -1"):
        check_config(parse("batch_size=0", "losses.l1=-1"))


def test_one_start_of_the_estimator():
    farl = ("weights.estimator=farl.npz", "estimator.style=farl", "estimator.from_scratch=false")
    check_config(parse(*farl))
    with pytest.raises(ConfigError, match=r"weights\.start and config\.weights\.estimator both say where"):
        check_config(parse(*farl, "weights.start=pretrained"))


def test_values_in_between_are_no_mistakes():
    """Fields are set one by one: what must hold between them is looked at when all are there."""
    check_config(parse("estimator.width=100", "estimator.heads=5", "image_size=112"))
    check_config(parse("data.embedded.frames_per_clip=1", "data.allow_self_pairs=true"))
    across = ("data.embedded.frames_per_clip=1", "data.embedded.clips_per_identity=2", "data.across_clips=true")
    check_config(parse(*across))
    check_config(parse("steps=0"))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("**/*.py")), ids=lambda p: p.name)
def test_every_configuration_passes(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_config(config_files.load_file(path))


def test_every_number_has_a_range():
    def without(kind: type) -> list[str]:
        found = []
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            inner = [one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)]
            if inner:
                found += without(inner[0])
            elif any(number in (hint, *typing.get_args(hint)) for number in (int, float)):
                metadata = [one for part in (hint, *typing.get_args(hint)) for one in getattr(part, "__metadata__", ())]
                found += [] if any(isinstance(one, Range) for one in metadata) else [f"{kind.__name__}.{name}"]
        return found

    assert without(Config) == []


def test_generated_clips_are_checked_by_themselves():
    with pytest.raises(ConfigError, match=r"EmbeddedData\.frames_per_clip is 0, it must be at least 1"):
        check_embedded(EmbeddedData(frames_per_clip=0))


def test_the_command_prints_the_line_alone(tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu"}
    log = f"--config.log.directory={tmp_path / 'runs' / 'x'}"
    for arguments, words in (
        (["--config.image_size=97"], "error: config.image_size is 97, no multiple of config.estimator.patch 16"),
        (["--config.estimator.free_joints=('root','chin')"], "error: config.estimator.free_joints names chin"),
        (["--config.seed=1"], "error: JAX finds no device"),
    ):
        environment["JAX_PLATFORMS"] = "nothing" if "device" in words else "cpu"
        command = [sys.executable, str(ROOT / "train.py"), "--config", QUICKSTART, log, *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr.startswith(words)
        assert len(result.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
