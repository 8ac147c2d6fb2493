"""A watchdog: it stops a hung run and logs the stage that it hung in."""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

log = logging.getLogger(__name__)

EXIT_CODE = 75  # EX_TEMPFAIL: to be tried again, as schedulers read it


def _give_up() -> None:
    """End the process at once: an orderly end may need a lock that the hung stage holds."""
    faulthandler.dump_traceback(all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class Stage(NamedTuple):
    name: str
    start: float  # seconds, as time.monotonic
    limit: float  # seconds


class StallWatch:
    """Ends the process when one stage takes longer than `seconds`, with the stage's name in the log.

    After a tenth of the time it logs a warning. Nothing is lost: the last checkpoint is whole, and the same command
    goes on from there.
    """

    def __init__(self, seconds: float, *, give_up: Callable[[], None] = _give_up):
        self.seconds, self._give_up = seconds, give_up
        self.stage_now: Stage | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def stage(self, name: str, *, seconds: float | None = None) -> Iterator[None]:
        """What the main thread does now, perhaps with a limit of its own. After it the stage around it begins anew."""
        around = self.stage_now
        self.stage_now = Stage(name, time.monotonic(), self.seconds if seconds is None else seconds)
        try:
            yield
        finally:
            self.stage_now = around and around._replace(start=time.monotonic())

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        warned = None
        while not self._closed.wait(self.seconds / 50):
            stage = self.stage_now
            if stage is None:
                continue
            waited = time.monotonic() - stage.start
            if waited > stage.limit:
                log.error(
                    "gave up after %.0f s of waiting for: %s. The last checkpoint is whole, the same command goes on "
                    "from there; config.faults sets the limits.", waited, stage.name
                )  # fmt: skip
                self._give_up()
                return
            if waited > stage.limit / 10 and warned != stage:
                log.warning("waiting for %.0f s already for: %s", waited, stage.name)
                warned = stage
