"""Metrics to JSONL and TensorBoard. After a resume the files hold what an uninterrupted run would have written."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sheap_jax.files.json_files import read_json_lines
from sheap_jax.files.regular import read_whole
from sheap_jax.files.whole_file import whole_file

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0  # that TensorBoard may lag behind


class MetricWriter:
    """Appends to `metrics.jsonl` (one object per line) and to TensorBoard event files below `tensorboard/`.

    With `writes=False` it does nothing: of several processes one writes.
    """

    def __init__(self, directory: str | Path, *, resume_step: int = 0, writes: bool = True):
        self._file, self._board = None, None
        if not writes:
            return
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._path = self.directory / "metrics.jsonl"
        drop_lines_after(self._path, resume_step)
        self._file = self._path.open("a")
        try:
            self._board = _Board(self.directory / "tensorboard", first_step=resume_step + 1)
        except ImportError:
            log.warning("tensorboardX is not installed: metrics go to %s alone", self._path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step, flushed at once: a killed run keeps them."""
        if self._file is None:
            return
        row = {"step": step} | {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.write_scalars(step, {name: value for name, value in row.items() if name != "step"})

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """`image` [h, w, 3] uint8, to TensorBoard."""
        if self._board is not None:
            self._board.write_image(step, name, image)

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
        directory.mkdir(parents=True, exist_ok=True)
        self._writer: Any = EventsWriter(str(directory / "events"))
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

    def _write(self, step: int, **content: Any) -> None:
        if self._writer is None:
            return
        event = self._events.Event(wall_time=time.time(), step=step, **content)
        self._try(self._writer.write_event, event)
        if self._writer is not None and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flushed = time.monotonic()
            self._try(self._writer.flush)

    def _try(self, write: Any, *arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:
            log.warning("TensorBoard gets no more of this run (%s); metrics.jsonl goes on", error)
            self._writer = None


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """All rows of a JSONL file with a step; a line that a kill has cut off is left out."""
    return [row for row in read_json_lines(path) if isinstance(row.get("step"), int | float)]


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run repeats. An interruption here loses no other line."""
    if not path.exists():
        return
    kept = "".join(json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= step)
    if kept.encode() != read_whole(path):
        with whole_file(path) as temporary:
            temporary.write_text(kept)
