"""What stops a run early: numbers that are not finite, and signals."""

import signal
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Int

from sheap_jax.training.step import StepReport
from sheap_jax.types import Batch, RawBatch


class NotFiniteError(RuntimeError):
    """A batch gave NaN or infinity; the message names its records."""


def check_batch(batch: Batch | RawBatch, record_key: Callable[[int], str]) -> None:
    """Refuse a batch that holds NaN or infinity before it reaches the device. Raises NotFiniteError."""
    bad = np.zeros(len(batch.record), bool)
    for frame in (batch.source, batch.target):
        for values in frame:
            bad |= ~np.isfinite(values).reshape(len(bad), -1).all(axis=1)
    if bad.any():
        raise NotFiniteError(
            f"the data hold NaN or infinity: {_names(batch.record, bad, record_key)}. "
            "Prepare these records again or take them out; run the same command to go on from the last checkpoint."
        )


def check_report(
    report: StepReport, step: int, records: Int[Array, "b 2"] | Int[np.ndarray, "b 2"], record_key: Callable[[int], str]
) -> None:
    """Stop after a step that was not applied because something in it was not finite. Waits for that step.

    Raises NotFiniteError with the records whose pictures or landmarks were not finite, or with the whole batch if
    only the gradient was not.
    """
    if bool(report.applied):
        return
    bad = ~np.asarray(report.finite)
    where = "in the prediction" if bad.any() else "in the gradient"
    raise NotFiniteError(
        f"step {step} gave NaN or infinity {where}: {_names(records, bad if bad.any() else ~bad, record_key)}. "
        "The step was not applied. Look at these records; if they are sound, lower the learning rate."
    )


def _names(
    records: Int[Array, "b 2"] | Int[np.ndarray, "b 2"], bad: np.ndarray, record_key: Callable[[int], str]
) -> str:
    pairs = [f"{record_key(int(source))} -> {record_key(int(target))}" for source, target in np.asarray(records)[bad]]
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(pairs[:4]) + more


class StopSignal:
    """Turns SIGTERM and SIGINT into a wish to stop after the step; a second one stops at once."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
