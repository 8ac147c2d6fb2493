"""Checkpoints and metrics in a bucket, without a training: what is whole stays whole, errors are one line."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from sheap_jax.files.places import files_below, upload_all
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


def test_a_bucket_that_is_asked_too_often_is_no_full_disk(run):
    told = str(Checkpoints(run)._failure(3, RuntimeError("429 RESOURCE_EXHAUSTED: rate quota exceeded")))
    assert "rate quota exceeded" in told
    assert "is full" not in told


@pytest.fixture
def marked(run):
    """A run with checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(run)
    for step in (1, 2):
        checkpoints.save(make_state(step))
    checkpoints.close()
    return run


def test_a_checkpoint_that_has_lost_its_mark_is_damaged(marked, caplog):
    before = len(list(files_below(marked / "checkpoints/2")))
    (marked / "checkpoints/2/commit_success.txt").unlink()
    assert_same(read_checkpoint(marked, make_state(0)).learned, make_state(1).learned)
    assert "checkpoints/2 is damaged" in caplog.text
    assert (marked / "checkpoints/2").exists(), "reading moves nothing"
    caplog.clear()
    assert_same(Checkpoints(marked).restore(make_state(0)), make_state(1))
    assert "checkpoints/2 is damaged" in caplog.text
    assert len(list(files_below(marked / "damaged/2"))) == before - 1


def test_a_run_does_not_begin_anew_where_all_marks_are_lost(marked):
    for step in (1, 2):
        (marked / f"checkpoints/{step}/commit_success.txt").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"checkpoints is empty, but .*damaged holds checkpoints.*--fresh"):
            Checkpoints(marked).restore(make_state(0))


def test_what_was_cut_off_is_not_whole_on_a_disk_either(marked, server, tmp_path, caplog):
    checkpoints = Checkpoints(marked)
    server.fails = lambda method, path: 403 if method != "GET" and "ocdbt" in path else None

    def save_and_wait():
        checkpoints.save(make_state(3))
        checkpoints.finish()

    with pytest.raises(CheckpointError):
        save_and_wait()
    server.fails = lambda method, path: None
    for file in files_below(marked):
        copy = tmp_path / str(file.relative_to(marked))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    assert (tmp_path / "checkpoints/3").is_dir()
    assert finished_steps(tmp_path) == finished_steps(marked) == [1, 2]
    assert_same(read_checkpoint(tmp_path, make_state(0)).learned, make_state(2).learned)
    assert_same(Checkpoints(tmp_path).restore(make_state(0)), make_state(2))
    assert "checkpoints/3 is damaged" in caplog.text
    assert (tmp_path / "damaged/3").is_dir()


def test_a_run_may_be_copied_up_from_a_disk(run, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1))
    checkpoints.close()
    upload_all(tmp_path, run)
    assert_same(Checkpoints(run).restore(make_state(0)), make_state(1))


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
