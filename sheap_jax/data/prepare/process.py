"""A process that converts clips one after another: a crash or a hang costs the clip, not the run."""

import contextlib
import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Any

from sheap_jax.data.prepare.clip_result import ClipConversion, Status, convert_and_store, store_failure
from sheap_jax.data.prepare.clips import Clip


class ClipProcess:
    """Converts clips in a process of its own, which starts at the first clip and again after it died."""

    def __init__(self, conversion: ClipConversion) -> None:
        self._conversion = conversion
        self._process: Any = None
        self._connection: Connection | None = None
        self._closed = False

    def convert(self, clip: Clip) -> Status:
        """As `convert_and_store`; a crash or the end of the time limit becomes a status.

        Raises RuntimeError if the process cannot work at all: it does not start, or cannot store results.
        """
        new = self._connection is None
        connection = self._connection or self._start()
        try:
            if new:  # not as an argument: to start a process that dies before it has read them would take for ever
                connection.send(self._conversion)
            connection.send(clip)
            answer = connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code, self._connection = self._process.exitcode, None
            if self._closed:
                raise RuntimeError("closed while a clip was being converted") from None
            if code == -signal.SIGALRM:
                return store_failure(
                    clip, f"took longer than the time limit of {self._conversion.time_limit:g} s", self._conversion
                )
            return store_failure(clip, f"the process that converted it died with exit code {code}", self._conversion)
        if isinstance(answer, Exception):
            raise RuntimeError(
                f"{clip.path}: the result cannot be stored in {self._conversion.folder}: {answer}"
            ) from answer
        return answer

    def close(self) -> None:
        """End the process; a clip in work is left without a status."""
        self._closed = True
        if self._process is not None:
            self._process.terminate()
            self._process.join()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()  # our copy of its end: the pipe now closes when the process dies
        return self._connection


def _serve(connection: Connection) -> None:
    """Receive a conversion, then answer clips with statuses until the other side is gone."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process' to answer
    cv2.setNumThreads(1)  # one process per core
    with contextlib.suppress(EOFError, BrokenPipeError):
        conversion: ClipConversion = connection.recv()
        while True:
            clip = connection.recv()
            # The kernel ends the process wherever it hangs, and even if the main process is gone.
            signal.setitimer(signal.ITIMER_REAL, conversion.time_limit)
            try:
                answer: Status | Exception = convert_and_store(clip, conversion)
            except OSError as error:
                answer = error
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            connection.send(answer)
