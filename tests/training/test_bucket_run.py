"""A run whose directory is a bucket, against an emulator with faults: nothing local is needed to go on from it."""

import os
import signal
import subprocess
from dataclasses import replace

import jax
import numpy as np
import pytest

from sheap_jax import config_files
from sheap_jax.commands import train
from sheap_jax.commands.eval import evaluate
from sheap_jax.files.places import files_below
from sheap_jax.files.urls import open_path
from sheap_jax.inference.export import export_weights
from sheap_jax.inference.predictor import Predictor
from sheap_jax.training.checkpoint import CheckpointError
from sheap_jax.training.checkpoint_list import finished_steps
from tests.emulators import BUCKET, FaultyServer, every, gcs_server, use_server
from tests.training.test_train import computed, start


@pytest.fixture
def server(monkeypatch):
    faulty = FaultyServer(gcs_server())
    use_server(faulty.address, monkeypatch)
    yield faulty
    faulty.close()


def test_a_run_in_a_bucket_outlives_its_machine(tiny_config, tmp_path, monkeypatch, server, caplog):
    """Killed while Orbax writes, gone on with among failing requests, damaged, gone on with again, used."""
    monkeypatch.chdir(tmp_path)
    run = open_path(f"gs://{BUCKET}/runs/tiny")
    log = replace(tiny_config.log, directory=f"gs://{BUCKET}/runs/{{name}}", keep_checkpoints=3, pictures_every=4)
    config = replace(tiny_config, log=log)
    there = set(os.listdir())

    process = start(config, tmp_path)
    kill_at(server, process, "checkpoints/6/commit_success.txt")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert finished_steps(run) == [3]
    first = computed(run)
    assert len(first) >= 6  # a checkpoint is begun when the rows before it are there

    server.fails = every(60)
    train.train(config)
    assert len(server.failed) > 1
    assert f"process {process.pid} on" in caplog.text  # whose lock was taken over
    whole = computed(run)
    assert whole[: len(first)] == first
    assert [row["step"] for row in whole] == list(range(1, 9))
    weights = Predictor.from_checkpoint(str(run)).parts().learned.params

    server.fails = lambda method, path: None
    damage(run / "checkpoints/8/default")
    train.train(config)
    assert computed(run) == whole
    assert (run / "damaged/8/commit_success.txt").exists()
    assert (run / "damaged/8.sha256.json").exists()
    again = Predictor.from_checkpoint(run).parts().learned.params
    jax.tree.map(np.testing.assert_array_equal, again, weights)

    export_weights(str(run), open_path(f"gs://{BUCKET}/weights"))
    images = np.zeros((1, 32, 32, 3), np.float32)
    halves = Predictor.from_checkpoint(f"gs://{BUCKET}/weights")(images)
    np.testing.assert_allclose(halves.shape, Predictor.from_checkpoint(run)(images).shape, atol=1e-2)

    names = {str(file.relative_to(run)).split("/")[0] for file in files_below(run)}
    files = {"architecture.json", "config.json", "metrics.jsonl", "pictures", "tensorboard", "checkpoints", "damaged"}
    assert names == files
    assert config_files.load_file(str(run / "config.json")) == config
    assert set(os.listdir()) - there == {"config_file.py", "config_file.json"}

    longer = replace(config, steps=9)
    server.fails = lambda method, path: 401 if method == "POST" and "checkpoints" in path else None
    with pytest.raises(CheckpointError, match=r"could not write .*gcloud auth application-default login") as caught:
        train.train(longer)
    assert "\n" not in str(caught.value)
    server.fails = lambda method, path: None
    assert finished_steps(run) == [3, 6, 8]
    train.train(longer)
    assert finished_steps(run) == [6, 8, 9]
    assert computed(run)[:8] == whole


@pytest.mark.slow
def test_the_report_of_a_run_in_a_bucket_lies_beside_it(tiny_config, server):
    log = replace(tiny_config.log, directory=f"gs://{BUCKET}/scored", validate_every=4)
    run = train.train(replace(tiny_config, log=log))
    evaluate(str(run), benchmarks=["clips"], step="best")
    assert {path.name for path in (run / "evaluation").iterdir()} == {"results.json", "results.md", "clips_samples.png"}


def kill_at(server: FaultyServer, process: subprocess.Popen, name: str) -> None:
    """Kill a process when it begins to write an object of this name."""

    def fail(method: str, path: str) -> int | None:
        if method == "POST" and name in path.replace("%2F", "/"):
            process.send_signal(signal.SIGKILL)
            return 503
        return None

    server.fails = fail


def damage(folder) -> None:
    """Flip a byte of the largest object in a folder."""
    data, file = max((file.read_bytes(), file) for file in files_below(folder) if len(file.read_bytes()) > 1000)
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
