"""One process at a time writes to a directory: a locked file says which.

The system releases the lock when the process ends, however it ends, also over NFS. What the file says is for people,
and for file systems that know no locks. Buckets have a lock of their own kind (bucket_lock.py).
"""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from sheap_jax.files.bucket_lock import BucketLock
from sheap_jax.files.json_files import parse_json
from sheap_jax.files.urls import in_bucket

log = logging.getLogger(__name__)

LOCK = ".lock"
MOST_BYTES = 2**12  # that are read of a lock
_held: dict[Path, int] = {}  # locks of this process, and how often each was claimed


class InUseError(OSError):
    """Another process writes to the directory."""


class Holder(NamedTuple):
    """A process that writes."""

    host: str
    process: int
    since: str  # local time of its start

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@contextlib.contextmanager
def one_writer(directory: Path, *, way_out: str, lock: Path | None = None) -> Iterator[None]:
    """This process alone writes to a directory while the `with` block runs. It may claim it more than once.

    A lock whose process has ended is taken over, and that is said.

    Args:
      way_out: what else one can do than wait for the other's end.
      lock: the locked file, `.lock` in the directory without.

    Raises:
      InUseError: another process writes to it; the message names it.
      OSError: the lock cannot be written.
    """
    lock = (lock or directory / LOCK).absolute()
    if lock in _held:
        _held[lock] += 1
        try:
            yield
        finally:
            _held[lock] -= 1
        return
    give_back = _claim_in_bucket(lock, directory, way_out) if in_bucket(lock) else _claim_file(lock, directory, way_out)
    _held[lock] = 1
    try:
        yield
    finally:
        del _held[lock]
        give_back()


def read_holder(file: IO[str]) -> Holder | None:
    """Who an opened lock names; None if it names nobody."""
    file.seek(0)
    try:
        return _holder(parse_json(file.read(MOST_BYTES)))
    except (ValueError, TypeError):
        return None


def _holder(fields: dict[str, Any]) -> Holder | None:
    """Who is meant. Raises TypeError for other fields than a holder's."""
    holder = Holder(**fields)
    return holder if type(holder.process) is int and 0 < holder.process < 2**31 else None


def _claim_in_bucket(lock: Path, directory: Path, way_out: str) -> Callable[[], None]:
    """Take the lock of a folder in a bucket; returns what gives it back."""

    def named(fields: dict[str, Any]) -> Holder | None:
        try:
            return _holder({name: fields[name] for name in Holder._fields})
        except (KeyError, TypeError):
            return None

    def lives(fields: dict[str, Any]) -> bool:
        holder = named(fields)
        return holder is not None and _lives(holder)

    taken = BucketLock(lock, _this_process()._asdict())
    taken.take(lambda fields: _refusal(named(fields), directory, way_out), lives)
    return taken.give_back


def _claim_file(lock: Path, directory: Path, way_out: str) -> Callable[[], None]:
    file = _claim(lock, directory, way_out)
    return lambda: _give_back(file, lock)


def _this_process() -> Holder:
    return Holder(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))


def _claim(lock: Path, directory: Path, way_out: str) -> IO[str]:
    """The locked file, which names this process."""
    while True:
        file = _open(lock)
        try:
            _take(file, directory, way_out)
            if _is_at(file, lock):
                _write(_this_process(), file, lock)
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its holder has removed it meanwhile: the next one is another file


def _open(lock: Path) -> IO[str]:
    """A file to read and write. A link in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(lock, flags, 0o666), "r+", encoding="utf-8")


def _take(file: IO[str], directory: Path, way_out: str) -> None:
    """Lock the file, or refuse. Says whose it was, if that one has ended."""
    before = read_holder(file)
    try:
        _lock(file)
        before = read_holder(file)  # who had it may have given it back meanwhile
    except BlockingIOError:
        raise _refusal(before, directory, way_out) from None
    except OSError as error:
        if before is not None and _lives(before):
            raise _refusal(before, directory, way_out) from error
        elsewhere = before is not None and before.host != socket.gethostname()
        ended = f", and that {before} has ended" if elsewhere else ""
        log.warning("%s cannot be locked (%s): make sure that only one process writes to it%s", directory, error, ended)
        before = None if elsewhere else before
    if before is not None:
        log.warning("%s ended without giving %s back; this process takes it over", before, directory)


def _write(holder: Holder, file: IO[str], lock: Path) -> None:
    try:
        file.seek(0)
        file.truncate()
        file.write(json.dumps(holder._asdict()) + "\n")
        file.flush()
    except OSError:
        _give_back(file, lock)
        raise


def _refusal(holder: Holder | None, directory: Path, way_out: str) -> InUseError:
    return InUseError(f"{directory} is written to by {holder or 'another process'}: wait for its end, or {way_out}")


def _give_back(file: IO[str], lock: Path) -> None:
    """Remove the lock, if it is still this one; empty it where an open file cannot be removed."""
    with contextlib.suppress(OSError):
        file.seek(0)
        file.truncate()
        if _is_at(file, lock):
            lock.unlink()
    file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


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
