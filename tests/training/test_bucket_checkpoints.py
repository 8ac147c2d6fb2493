"""Checkpoints and metrics in a bucket, without a training: what is whole stays whole, errors are one line."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from sheap_jax.files.places import files_below
from sheap_jax.files.urls import open_path
from sheap_jax.training import metrics
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints, read_checkpoint
from sheap_jax.training.checkpoint_list import check_reached, finished_steps
from sheap_jax.training.metrics import MetricWriter, read_metrics
from tests.emulators import BUCKET, FaultyServer, gcs_server, use_server
from tests.training.test_checkpoint import assert_same, make_state


@pytest.fixture
def server(monkeypatch):
    faulty = FaultyServer(gcs_server())
    use_server(faulty.address, monkeypatch)
    yield faulty
    faulty.close()


@pytest.fixture
def run(server, request):
    return open_path(f"gs://{BUCKET}/{request.node.name}")


def test_expired_credentials_are_one_line_and_cost_nothing(run, server):
    checkpoints = Checkpoints(run)
    checkpoints.save(make_state(1))
    checkpoints.finish()
    server.fails = lambda method, path: 401 if method == "POST" and "checkpoints" in path else None
    refused = r"could not write checkpoint .*access was refused .*gcloud auth application-default login"

    def save_and_wait():
        checkpoints.save(make_state(2))
        checkpoints.finish()

    with pytest.raises(CheckpointError, match=refused) as caught:
        save_and_wait()
    assert "\n" not in str(caught.value)
    server.fails = lambda method, path: 401
    with pytest.raises((CheckpointError, PermissionError), match="access was refused"):
        Checkpoints(run)
    with pytest.raises((CheckpointError, PermissionError), match="access was refused"):
        read_checkpoint(run, make_state(0))
    server.fails = lambda method, path: None
    assert finished_steps(run) == [1]
    again = Checkpoints(run)
    assert_same(again.restore(make_state(0)), make_state(1))
    again.save(make_state(2))
    again.close()
    assert finished_steps(run) == [1, 2]
    assert_same(read_checkpoint(run, make_state(0)).learned, make_state(2).learned)


def test_buckets_that_orbax_cannot_write_to_are_refused():
    check_reached(open_path("runs/a"))
    with pytest.raises(CheckpointError, match=r"^s3:/b/run: Orbax reads and writes .*mount the bucket as a folder"):
        check_reached(PurePosixPath("s3://b/run"))


def test_events_are_copied_in_files_of_bounded_length(run, monkeypatch):
    """A copy is of whole files, so that they must not grow for ever."""
    monkeypatch.setattr(metrics, "LONGEST_COPY", 400)
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", -1.0)
    writer = MetricWriter(run)
    for step in range(1, 13):
        writer.write(step, {"loss": 1.0 / step})
    writer.write_image(12, "picture", np.zeros((8, 8, 3), np.uint8))
    writer.close()
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, 13))
    events = list(files_below(run / "tensorboard"))
    assert len(events) > 1
    assert all(file.stat().st_size < 800 for file in events)
