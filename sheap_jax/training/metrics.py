"""Metrics to JSONL and TensorBoard. After a resume the files hold what an uninterrupted run would have written."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)


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
            from tensorboardX import SummaryWriter
        except ImportError:
            log.warning("tensorboardX is not installed: metrics go to %s alone", self._path)
        else:
            self._board = SummaryWriter(str(self.directory / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step, flushed at once: a killed run keeps them."""
        if self._file is None:
            return
        row = {"step": step} | {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """`image` [h, w, 3] uint8, to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """All rows of a JSONL file; a last line cut off by a kill is left out."""
    rows = []
    for line in Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run repeats. An interruption here loses no other line."""
    if not path.exists():
        return
    kept = "".join(json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= step)
    if kept != path.read_text():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(kept)
        temporary.replace(path)
