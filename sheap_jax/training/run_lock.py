"""One training at a time writes to a run: a locked file that says who holds it.

The system releases the lock when the process ends, however it ends, also over NFS. What the file says is for people,
and for file systems that know no locks.
"""

import contextlib
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO, NamedTuple

from sheap_jax.config_files import ConfigError

log = logging.getLogger(__name__)

LOCK = ".lock"


class Holder(NamedTuple):
    """A process that trains."""

    host: str
    process: int
    since: str  # local time of its start

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class RunLock:
    """The lock of a run directory, held until `close`. Raises ConfigError if somebody else holds it."""

    def __init__(self, run: Path):
        self._path, self._run = run / LOCK, run
        self._file = self._path.open("a+")
        try:
            self._take()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Give the run back: an empty file."""
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        self._file.close()

    def _take(self) -> None:
        before = read_holder(self._file)
        try:
            _lock(self._file)
        except BlockingIOError:
            raise self._refusal(before) from None
        except OSError as error:
            if before is not None and _lives(before):
                raise self._refusal(before) from error
            elsewhere = before is not None and before.host != socket.gethostname()
            ended = f", and that {before} has ended" if elsewhere else ""
            log.warning(
                "%s cannot be locked (%s): make sure that only one training writes to it%s", self._run, error, ended
            )
            before = None if elsewhere else before
        if before is not None:
            log.warning("%s ended without giving %s back; this training takes it over", before, self._run)
        own = Holder(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))
        self._file.truncate(0)
        self._file.write(json.dumps(own._asdict()) + "\n")
        self._file.flush()

    def _refusal(self, holder: Holder | None) -> ConfigError:
        who = "" if holder is None else f" ({holder})"
        return ConfigError(
            f"another training is writing to {self._run}{who}: wait for its end, or train beside it with another "
            "--config.name"
        )


def read_holder(file: IO[str]) -> Holder | None:
    """Who an opened lock file names; None if it names nobody."""
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None


def _lock(file: IO[str]) -> None:
    """Raises BlockingIOError if another process has locked the file, another OSError where there are no locks."""
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError("this system has no fcntl") from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:  # what some systems answer
        raise BlockingIOError from error


def _lives(holder: Holder) -> bool:
    """Whether a process of this host is still there. Of another host nobody can tell."""
    if holder.host != socket.gethostname() or holder.process == os.getpid() or os.name == "nt":
        return False  # this process's number: it had it before a restart of the container
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
