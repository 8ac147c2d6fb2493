"""What ends a run early: steps that were not applied, and signals."""

import collections
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

from sheap_jax.config import Faults
from sheap_jax.files.row_files import append_row
from sheap_jax.training.metrics import drop_lines_after
from sheap_jax.training.step import StepReport

DECAY = 0.99  # of the running mean of the loss
SETTLING = 50  # losses of a phase before their mean means something


class NotFiniteError(RuntimeError):
    """Too many steps gave NaN, infinity or an exploding loss; the message names the records of the last one."""


class StepWatch:
    """Judges every step on the host, one step late: the devices never wait for the host.

    Steps that were not applied are written to `skipped.jsonl` of the run, with their reason and the keys of the records
    behind it. More than `max_skipped` of them among the last `window` steps raise NotFiniteError.
    """

    def __init__(
        self, run: Path, record_key: Callable[[int], str], faults: Faults, *, resume_step: int = 0, writes: bool = True
    ):
        self.file, self._writes = run / "skipped.jsonl", writes
        self._record_key, self._faults = record_key, faults
        self._waiting: tuple[StepReport, int] | None = None
        self._skipped = collections.deque[int]()
        self.skipped = 0  # steps of this start that were not applied
        self._overflow = np.zeros(2, np.int64)
        self.start_phase()
        if writes:
            drop_lines_after(self.file, resume_step)

    def start_phase(self) -> None:
        """Forget the mean loss: the next phase has another loss."""
        self._mean, self._seen = 0.0, 0

    @property
    def loss_limit(self) -> float:
        """The largest loss that the next step may have; infinite until enough are known."""
        return self._faults.explosion * self._mean if self._seen >= SETTLING else math.inf

    def follow(self, report: StepReport, step: int) -> None:
        """Take note of a step that was just started, and judge the one before."""
        self.settle()
        self._waiting = (report, step)

    def settle(self) -> None:
        """Wait for the step that was noted last and judge it. Raises NotFiniteError."""
        if self._waiting is None:
            return
        (report, step), self._waiting = self._waiting, None
        loss = float(report.metrics["loss"])
        if report.overflow is not None:
            self._overflow = np.maximum(self._overflow, np.asarray(report.overflow))
        if bool(report.applied):
            self._seen += 1
            self._mean += (loss - self._mean) * max(1 - DECAY, 1 / self._seen)
            return
        self._skip(report, step, loss)

    def take_overflow(self) -> Int[np.ndarray, "2"]:
        """Most entries of one image, surfels and mesh, that found no room in the steps judged since the last call."""
        taken, self._overflow = self._overflow, np.zeros(2, np.int64)
        return taken

    def _skip(self, report: StepReport, step: int, loss: float) -> None:
        reason, bad = _diagnose(report, loss)
        records = np.asarray(report.records)[bad]
        keys = [f"{self._record_key(int(source))} -> {self._record_key(int(target))}" for source, target in records]
        if self._writes:
            append_row(self.file, {"step": step, "reason": reason, "loss": repr(loss), "records": keys})
        self._skipped.append(step)
        self.skipped += 1
        while self._skipped[0] <= step - self._faults.window:
            self._skipped.popleft()
        if len(self._skipped) > self._faults.max_skipped:
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            raise NotFiniteError(
                f"step {step}: {reason}: {', '.join(keys[:4])}{more}. {len(self._skipped)} of the last "
                f"{self._faults.window} steps were not applied, config.faults.max_skipped allows "
                f"{self._faults.max_skipped}; all are in {self.file}. Look at their records; if they are sound, lower "
                "the learning rate. The same command goes on from the last checkpoint, which holds no such step."
            )


def _diagnose(report: StepReport, loss: float) -> tuple[str, np.ndarray]:
    """Why a step was not applied, and which pairs of the batch are behind it."""
    everyone = np.ones(len(report.sound), bool)
    for values, reason in ((report.sound, "the data hold"), (report.finite, "the prediction gave")):
        bad = ~np.asarray(values)
        if bad.any():
            return f"{reason} NaN or infinity", bad
    if math.isfinite(loss) and all(np.isfinite(value) for value in report.metrics.values()):
        return f"the loss exploded to {loss:.3g}", everyone
    return "the loss or its gradient is NaN or infinity", everyone


class StopSignal:
    """Turns SIGTERM and SIGINT into a request to stop after the step; a second signal stops at once.

    None of several processes may stop alone: JAX passes a signal to one of them on, and names a step that all of them
    reach. `close` gives the signals back to who had them before.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._several = jax.process_count() > 1
        numbers = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        # Of several processes, JAX itself listens to SIGTERM.
        self._before = {number: signal.signal(number, self._handle) for number in numbers}

    def stops(self, step: int) -> bool:
        """Whether to stop after `step`. Every process must ask after every step."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """0 after a preemption, which is a success; 130 after Ctrl-C, as shells expect."""
        return 130 if self.number == signal.SIGINT else 0

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        if self._several:
            signal.raise_signal(signal.SIGTERM)
