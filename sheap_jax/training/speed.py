"""How fast a run is and what it waits for. The only metrics that two equal runs do not share."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

import jax

PREFIX = "speed/"  # of the names of these metrics
Wait = Literal["input", "devices", "compiling"]


class SpeedMeter:
    """Pairs per second, and the shares of the time that the host spends waiting, from one row of metrics to the next.

    Waiting for input while the devices still compute costs nothing. Where the share of `input` is large and that of
    `devices` small, the input pipeline is what limits the run.
    """

    def __init__(self, batch_size: int, *, step: int, clock: Callable[[], float] = time.monotonic):
        self._batch_size, self._clock = batch_size, clock
        self._begin(step)

    @contextlib.contextmanager
    def waiting(self, what: Wait) -> Iterator[None]:
        """Around what the main thread waits for."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited[what] += self._clock() - start

    def read(self, step: int) -> dict[str, float]:
        """The metrics since the last call, after `step`. Compiling is no part of the time that the rates refer to."""
        elapsed = max(self._clock() - self._start - self._waited["compiling"], 1e-9)
        values = {
            "pairs_per_second": (step - self._step) * self._batch_size / elapsed,
            "input_share": self._waited["input"] / elapsed,
            "devices_share": self._waited["devices"] / elapsed,
            "compiling_seconds": self._waited["compiling"],
        }
        peak = peak_memory()
        if peak is not None:
            values["peak_memory_gib"] = peak / 2**30
        self._begin(step)
        return {PREFIX + name: value for name, value in values.items()}

    def _begin(self, step: int) -> None:
        self._step, self._start = step, self._clock()
        self._waited: dict[Wait, float] = {"input": 0.0, "devices": 0.0, "compiling": 0.0}


def peak_memory() -> int | None:
    """The most bytes in use so far on any device of this process; None where the backend does not say, as on CPU."""
    found = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    return max((peak for peak in found if peak is not None), default=None)


def without_speed(row: dict[str, float]) -> dict[str, float]:
    """A row of metrics without what depends on the clock: the same in two equal runs."""
    return {name: value for name, value in row.items() if not name.startswith(PREFIX)}
