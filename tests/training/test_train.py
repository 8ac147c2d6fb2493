"""`sheap train` as its user meets it: exact resume, faults, progress."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from sheap_jax import config_files
from sheap_jax.commands import train
from sheap_jax.config import Faults
from sheap_jax.config_files import ConfigError
from sheap_jax.data.records import ShardError, write_split
from sheap_jax.evaluation.held_out import load_held_out_pairs, score_pairs
from sheap_jax.inference.predictor import Predictor
from sheap_jax.training.checkpoint import Checkpoints
from sheap_jax.training.checkpoint_list import best_step
from sheap_jax.training.metrics import read_metrics
from sheap_jax.training.profile import StepRange
from sheap_jax.training.speed import without_speed
from sheap_jax.training.watch import NotFiniteError
from tests.training.conftest import frames

ROOT = Path(__file__).parents[2]


def start(config, directory: Path) -> subprocess.Popen:
    """`python train.py` with this configuration, in a process of its own."""
    file = directory / "config_file.py"
    config_files.save_json(config, directory / "config_file.json")
    file.write_text(
        "from sheap_jax.config_files import load_json\n"
        f"def get_config():\n    return load_json({str(directory / 'config_file.json')!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu"}
    arguments = [sys.executable, str(ROOT / "train.py"), "--config", str(file)]
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny_config, tmp_path):
    """Two runs of one command are equal bit by bit, though one of them was killed and goes on in another process."""
    whole = replace(tiny_config.log, directory=str(tmp_path / "whole"))
    train.train(replace(tiny_config, log=whole))
    expected = computed(tmp_path / "whole")

    metrics = tmp_path / "run" / "metrics.jsonl"
    process = start(tiny_config, tmp_path)
    deadline = time.monotonic() + 300
    # Between the checkpoint of step 3 and the end, so that something is lost and done again.
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and (tmp_path / "run/checkpoints/3.sha256.json").exists():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Checkpoints(tmp_path / "run").steps(), "the run was killed before its first checkpoint"
    train.train(tiny_config)
    assert computed(tmp_path / "run") == expected
    ours, theirs = (Predictor.from_checkpoint(tmp_path / name).parts().learned.params for name in ("run", "whole"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def computed(run: Path) -> list[dict[str, float]]:
    """The metrics that do not depend on the clock."""
    return [without_speed(row) for row in read_metrics(run / "metrics.jsonl")]


def test_loss_falls(tiny_config):
    faster = replace(tiny_config.optimizer, learning_rate=1e-2)
    config = replace(tiny_config, steps=80, geometry_steps=80, optimizer=faster)
    run = train.train(config)
    losses = [row["loss"] for row in read_metrics(run / "metrics.jsonl")]
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


def test_a_run_on_landmarks_alone_is_scored_traced_and_predicts(tiny_config):
    """Held-out scores are those that the predictor of the best checkpoint gets, on pairs that never change."""
    off = dict.fromkeys(("l1", "ssim", "gradient", "perceptual", "normal", "depth", "offset", "scale"), 0.0)
    log = replace(tiny_config.log, validate_every=2, keep_checkpoints=8)
    config = replace(tiny_config, losses=replace(tiny_config.losses, **off), log=log, rasterizer="reference")
    run = train.train(config, profile=StepRange(4, 5))
    rows = {int(row["step"]): row for row in read_metrics(run / "metrics.jsonl")}
    assert list(rows) == list(range(1, 9))
    assert rows[1].keys() == rows[7].keys()
    rates = [row["learning_rate/estimator"] for row in rows.values()]
    assert rates[-1] < rates[1] == pytest.approx(config.optimizer.learning_rate)
    assert rows[1]["active_prototypes"] == rows[2]["active_prototypes"] == 80.0  # one to a face
    assert all(row["speed/pairs_per_second"] > 0 and 0 < row["speed/input_share"] < 1 for row in rows.values())
    assert rows[1]["speed/compiling_seconds"] > 0
    assert len(list((run / "profile/4-5").rglob("*.xplane.pb"))) == 1

    scored = {step: row["held_out/landmarks_px"] for step, row in rows.items() if "held_out/landmarks_px" in row}
    assert list(scored) == [2, 4, 6, 8]
    assert len(list((run / "pictures").glob("held-out-*.png"))) == 4
    best = best_step(run)
    assert scored[best] == min(scored[step] for step in (4, 6, 8))  # after geometry_steps, which are 2
    predictor = Predictor.from_checkpoint(run, step=best)
    assert int(predictor.parts().learned.step) == best
    pairs = load_held_out_pairs(config.data.directory, image_size=config.image_size)
    for name, value in score_pairs(predictor, pairs).values.items():
        assert rows[best][name] == pytest.approx(value, rel=1e-5), name


class Interposed:
    """The batches of a run, with something done to the fifth one."""

    def __init__(self, batches, act):
        self.batches, self.act, self.count = batches, act, 0

    def __next__(self):
        batch = next(self.batches)
        self.count += 1
        if self.count == 5:
            self.act(batch)
        return batch

    def __getattr__(self, name):
        return getattr(self.batches, name)


def interpose(monkeypatch, act) -> None:
    real = train.pair_batches
    monkeypatch.setattr(train, "pair_batches", lambda *a, **k: Interposed(real(*a, **k), act))


def test_nan_in_a_batch_is_skipped_or_stops_with_the_record_and_keeps_the_checkpoint(tiny_config, monkeypatch):
    def poison(batch):
        batch.target.landmarks[1, 3, 0] = np.nan

    interpose(monkeypatch, poison)
    strict = replace(tiny_config, faults=Faults(max_skipped=0))
    with pytest.raises(NotFiniteError, match=r"step 5: the data hold NaN.*person\d/clip/\d"):
        train.train(strict)
    run = Path(tiny_config.run_directory)
    assert Checkpoints(run).steps() == [3]

    train.train(tiny_config)  # goes on after step 3, its fifth batch is the eighth
    assert Checkpoints(run).steps()[-1] == 8
    skipped = [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert [(row["step"], len(row["records"])) for row in skipped] == [(8, 1)]


def test_sigterm_saves_and_exits_with_zero(tiny_config, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    interpose(monkeypatch, lambda batch: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as stopped:
            train.train(tiny_config)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert stopped.value.code == 0
    assert Checkpoints(tiny_config.run_directory).steps()[-1] == 5


@pytest.mark.slow
def test_lists_that_are_full_grow_once_and_stay_grown(tiny_config, monkeypatch, caplog):
    """The rasteriser begins with room for 64 entries of each image, where the surfels have hundreds."""
    real = train.assembly.render_settings
    monkeypatch.setattr(train.assembly, "render_settings", lambda config: real(config)._replace(surfel_capacity=64))
    log = replace(tiny_config.log, metrics_every=2)
    tiny_config = replace(tiny_config, steps=6, geometry_steps=1, log=log)
    run = train.train(tiny_config)
    lost = {row["step"]: row["overflow/surfels"] for row in read_metrics(run / "metrics.jsonl")}
    assert lost[2] > 64
    assert lost[4] == lost[6] == 0
    (grown,) = read_metrics(run / "capacity.jsonl")
    assert grown["step"] == 2
    assert grown["surfels"] in (128, 256, 512, 1024)
    assert grown["mesh"] is None
    assert re.search(
        r"step 2: .* no room for \d+ entries .* surfel_capacity grows from 64 to \d+ \(growth 1", caplog.text
    )
    assert "lower the learning rates" in caplog.text

    caplog.clear()
    train.train(replace(tiny_config, steps=8))  # takes the grown length
    assert read_metrics(run / "metrics.jsonl")[-1]["overflow/surfels"] == 0
    assert read_metrics(run / "capacity.jsonl") == [grown]
    assert "grows" not in caplog.text


def test_a_refused_start_leaves_a_finished_run_as_it_was(tiny_config):
    config = replace(tiny_config, steps=3, geometry_steps=3)
    run = train.train(config)
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    before, predicted = contents(run), Predictor.from_checkpoint(run)(images)
    refused = {
        "config.estimator.width is 16 there, 24 here": {"estimator": replace(config.estimator, width=24)},
        "config.seed is 0 there, 7 here; config.losses.ssim is 0.2 there": {
            "seed": 7,
            "losses": replace(config.losses, ssim=0.5),
        },
        "has 3 steps done, config.steps is 2": {"steps": 2},
        "config.batch_size is 0": {"batch_size": 0},
        "nothing.npz": {"morphable": "nothing.npz"},
        "nowhere": {"data": replace(config.data, directory="nowhere")},
    }
    for words, changes in refused.items():
        with pytest.raises((ConfigError, ShardError, OSError), match=words):
            train.train(replace(config, **changes))
        assert contents(run) == before
    for ours, expected in zip(Predictor.from_checkpoint(run)(images), predicted, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert train.train(config) == run  # all of its steps are done
    assert contents(run) == before


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_refused_start_leaves_no_directory(tiny_config, tmp_path):
    new = replace(tiny_config, log=replace(tiny_config.log, directory=str(tmp_path / "a" / "b" / "{name}")))
    single = tmp_path / "single"
    write_split(single, "train", frames()[::4], settings={})  # one frame of each person
    data = new.data
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, changes in {
        r"single, split 'train': none of the 3 identities has two frames": {
            "data": replace(data, directory=str(single))
        },
        r"empty/manifest\.json is missing": {"data": replace(data, directory=str(empty))},
        "free_joints names chin, which no model has: the joints of ellipsoid are root, jaw": {
            "estimator": replace(new.estimator, free_joints=("root", "chin"))
        },
        r"weights lpips\.npz do not exist": {"weights": replace(new.weights, lpips="lpips.npz")},
        "config.light is 'sunny'": {"light": "sunny"},
        "config.rasterizer: .*needs a TPU": {"rasterizer": "pallas_tpu"},
        "config.primitive is .cubes., it must be one of surfels": {"primitive": "cubes"},
    }.items():
        with pytest.raises((ConfigError, ShardError, OSError), match=words):
            train.train(replace(new, **changes))
        assert not (tmp_path / "a").exists()


def test_no_steps_give_a_run_that_can_be_used_and_gone_on_with(tiny_config, tmp_path):
    untrained = train.train(replace(tiny_config, steps=0))
    assert Checkpoints(untrained).steps() == [0]
    images = np.zeros((1, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(Predictor.from_checkpoint(untrained)(images).shape, 0)  # the mean head
    train.train(replace(tiny_config, steps=2))
    whole = replace(tiny_config.log, directory=str(tmp_path / "whole"))
    train.train(replace(tiny_config, steps=2, log=whole))
    assert computed(untrained) == computed(tmp_path / "whole")


def test_a_run_directory_that_cannot_be_written_is_said_before_anything_is_computed(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    log = replace(tiny_config.log, directory=str(tmp_path / "file" / "run"))
    with pytest.raises(OSError, match=r"cannot write the run to .*file/run.*choose another"):
        train.train(replace(tiny_config, log=log))


def test_a_typo_on_the_command_line_is_one_clear_line(tiny_config, tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    arguments = [sys.executable, str(ROOT / "train.py"), "--config.stepps=5"]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == ("error: config has no field 'stepps'; did you mean 'steps'?")
