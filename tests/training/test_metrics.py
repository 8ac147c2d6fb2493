"""The metric files."""

import struct
from pathlib import Path

import numpy as np
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


def test_a_flipped_bit_costs_its_own_line(tmp_path, caplog):
    """All lines after it were dropped once, and the next start took them out of the file."""
    writer = MetricWriter(tmp_path)
    for step in range(1, 6):
        writer.write(step, {"loss": step})
    writer.close()
    file = tmp_path / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"[" * 100_000 + b"\n" + lines[2] + b"\xff" + lines[3] + b'{"loss": 1}\n' + lines[4])
    assert [row["step"] for row in read_metrics(file)] == [1, 3, 5]
    assert "2 of 6 lines are damaged and left out" in caplog.text
    MetricWriter(tmp_path, resume_step=5).close()
    assert [row["step"] for row in read_metrics(file)] == [1, 3, 5]


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


def events(folder):
    """What TensorBoard would read: (step, tag, value) of scalars, tags of images, steps from which it starts anew."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, images, starts = [], [], []
    for path in sorted((folder / "tensorboard").glob("events.out.*")):
        data = path.read_bytes()
        while data:
            size = struct.unpack("<Q", data[:8])[0]
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.HasField("session_log"):
                starts.append(event.step)
            for value in event.summary.value:
                if value.HasField("image"):
                    images.append((event.step, value.tag, value.image.height))
                else:
                    scalars.append((event.step, value.tag, value.simple_value))
    return scalars, images, starts


def test_tensorboard_reads_the_same(tmp_path):
    pytest.importorskip("tensorboardX", reason="TensorBoard files need tensorboardX")
    writer = MetricWriter(tmp_path, resume_step=4)
    writer.write(5, {"loss": 1.5, "rate": 0.25})
    writer.write_image(5, "pair", np.zeros((6, 8, 3), np.uint8))
    writer.close()
    assert events(tmp_path) == ([(5, "loss", 1.5), (5, "rate", 0.25)], [(5, "pair", 6)], [5])


def test_a_full_disk_costs_tensorboard_and_not_the_run(tmp_path, caplog):
    """What tensorboardX's own thread makes of it is a training that waits for ever."""
    pytest.importorskip("tensorboardX", reason="TensorBoard files need tensorboardX")
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device that is always full")
    writer = MetricWriter(tmp_path)
    assert writer._board is not None
    with open("/dev/full", "wb", buffering=0) as full:
        writer._board._writer._py_recordio_writer._writer = full
        for step in range(1, 200):
            writer.write(step, {"loss": float(step)})
        writer.close()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 199
    assert caplog.text.count("TensorBoard gets no more of this run") == 1
