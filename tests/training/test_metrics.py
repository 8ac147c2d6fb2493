"""The metric files."""

from pathlib import Path

import pytest

from sheap_jax.training.metrics import MetricWriter, read_metrics


def test_rows_come_back(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 0.1 + 0.2})
    writer.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.1 + 0.2}]


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in range(1, 6):
        writer.write(step, {"loss": step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # what a kill leaves
    writer = MetricWriter(tmp_path, resume_step=3)
    writer.write(4, {"loss": 44})
    writer.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 44)]


def test_a_stop_while_lines_are_dropped_loses_none_of_the_others(tmp_path, monkeypatch):
    writer = MetricWriter(tmp_path)
    for step in range(1, 6):
        writer.write(step, {"loss": step})
    writer.close()
    before = (tmp_path / "metrics.jsonl").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            MetricWriter(tmp_path, resume_step=3)
        MetricWriter(tmp_path, resume_step=5).close()  # nothing to drop, nothing is written
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_tensorboard_files_are_written(tmp_path):
    pytest.importorskip("tensorboardX", reason="TensorBoard files need tensorboardX")
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert list((tmp_path / "tensorboard").glob("events.out.*"))
