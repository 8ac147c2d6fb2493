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
    """Killed while Orbax writes, its newest checkpoint damaged, gone on with among failing requests, used."""
    monkeypatch.chdir(tmp_path)
    run = open_path(f"gs://{BUCKET}/runs/tiny")
    directory = f"gs://{BUCKET}/runs/{{name}}"
    log = replace(tiny_config.log, directory=directory, checkpoint_every=2, pictures_every=4)
    config = replace(tiny_config, log=log)
    there = set(os.listdir())

    process = start(config, tmp_path)
    kill_at(server, process, "checkpoints/6/commit_success.txt")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert finished_steps(run) == [2, 4]
    first = computed(run)
    assert len(first) >= 6  # a checkpoint is begun when the rows before it are there

    damage(run / "checkpoints/4/default")
    server.fails = every(60)
    train.train(config)
    server.fails = lambda method, path: None
    assert len(server.failed) > 1
    assert f"process {process.pid} on" in caplog.text  # whose lock was taken over
    assert (run / "damaged/4/commit_success.txt").exists()
    assert (run / "damaged/4.sha256.json").exists()
    assert finished_steps(run) == [6, 8]
    rows = computed(run)
    assert rows[: len(first)] == first  # from step 3 on they were computed twice
    assert [row["step"] for row in rows] == list(range(1, 9))

    export_weights(str(run), open_path(f"gs://{BUCKET}/weights"))
    whole, half = (
        Predictor.from_checkpoint(f"gs://{BUCKET}/{name}").parts().learned for name in ("runs/tiny", "weights")
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.float16(a), np.float16(b)), whole.params, half.params)

    names = {str(file.relative_to(run)).split("/")[0] for file in files_below(run)}
    files = {"architecture.json", "config.json", "metrics.jsonl", "pictures", "tensorboard", "checkpoints", "damaged"}
    assert names == files
    assert config_files.load_file(str(run / "config.json")) == config
    assert set(os.listdir()) - there == {"config_file.py", "config_file.json"}


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
    """Flip a bit of the largest object in a folder."""
    file = max(files_below(folder), key=lambda file: file.stat().st_size)
    data = file.read_bytes()
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
