"""Metrics to JSONL and TensorBoard. After a resume the files hold what an uninterrupted run would have written."""

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sheap_jax.files.places import upload_all
from sheap_jax.files.row_files import RowFile, keep_rows, read_rows
from sheap_jax.files.urls import in_bucket, open_path

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0  # that TensorBoard may lag behind
LONGEST_COPY = 2**22  # bytes of events in a bucket's file, after which the next is begun


class MetricWriter:
    """Appends to `metrics.jsonl` (one object per line) and to TensorBoard event files below `tensorboard/`.

    A killed run keeps what was written; in a bucket, what was written before the last `flush`, or ten seconds ago.

    With `writes=False` it does nothing: of several processes one writes.
    """

    def __init__(self, directory: str | Path, *, resume_step: int = 0, writes: bool = True):
        self._file, self._board = None, None
        if not writes:
            return
        self.directory = open_path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "metrics.jsonl"
        drop_lines_after(path, resume_step)
        self._file = RowFile(path)
        try:
            self._board = _Board(self.directory / "tensorboard", first_step=resume_step + 1)
        except ImportError:
            log.warning("tensorboardX is not installed: metrics go to %s alone", path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step."""
        if self._file is None:
            return
        row = {"step": step} | {name: float(value) for name, value in values.items()}
        self._file.write(row)
        if self._board is not None:
            self._board.write_scalars(step, {name: value for name, value in row.items() if name != "step"})

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """`image` [h, w, 3] uint8, to TensorBoard."""
        if self._board is not None:
            self._board.write_image(step, name, image)

    def flush(self) -> None:
        """Before a checkpoint is written: a run that goes on from it must find the metrics of the steps before it."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


class _Board:
    """TensorBoard's event file, written by the thread that calls.

    tensorboardX's own SummaryWriter writes from a thread: on a full disk that thread dies, and the training waits for
    ever for room in its queue. Here a write that fails ends the event file with one line in the log, and the run goes
    on: metrics.jsonl has the same numbers.
    """

    def __init__(self, directory: Path, *, first_step: int):
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        events: Any = event_pb2  # its classes are made when it is imported, where type checkers do not see them
        self._summary, self._events = summary, events
        # A bucket gets whole files: they are written to a local folder and copied there.
        self._bucket = directory if in_bucket(directory) else None
        self._local = tempfile.TemporaryDirectory(prefix="sheap-events-") if self._bucket else None
        self._folder = Path(self._local.name) if self._local else directory
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open: Any = EventsWriter
        self._writer: Any = self._open(str(self._folder / "events"))
        self._ended = 0  # files that were copied for the last time
        self._flushed = time.monotonic()
        # Tells TensorBoard to forget the steps that are done again.
        restart = events.SessionLog(status=events.SessionLog.START)
        self._write(first_step, session_log=restart)

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._write(step, summary=self._summary.scalar(name, value))

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        self._write(step, summary=self._summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        if self._writer is not None:
            self._try(self._writer.close)
        if self._local is not None:
            self._try(upload_all, self._folder, self._bucket)
            self._local.cleanup()

    def _copy(self) -> None:
        """Bring a bucket up to date. A long file is ended: each time it is copied whole."""
        self._writer.flush()
        if self._bucket is None:
            return
        upload_all(self._folder, self._bucket)
        if sum(file.stat().st_size for file in self._folder.iterdir()) < LONGEST_COPY:
            return
        self._writer.close()
        for file in self._folder.iterdir():
            file.unlink()
        self._ended += 1
        self._writer = self._open(str(self._folder / "events"), filename_suffix=f".{self._ended:05d}")

    def _write(self, step: int, **content: Any) -> None:
        if self._writer is None:
            return
        event = self._events.Event(wall_time=time.time(), step=step, **content)
        self._try(self._writer.write_event, event)
        if self._writer is not None and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flushed = time.monotonic()
            self._try(self._copy)

    def _try(self, write: Any, *arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:
            log.warning("TensorBoard gets no more of this run (%s); metrics.jsonl goes on", error)
            self._writer = None


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """All rows of a JSONL file with a step; a line that a kill has cut off is left out."""
    return [row for row in read_rows(open_path(path)) if _has_step(row)]


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run repeats. An interruption here loses no other line."""
    keep_rows(path, lambda row: _has_step(row) and row["step"] <= step)


def _has_step(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("step"), int | float)
