"""One process at a time writes to a folder of a bucket, which knows no locks.

A holder is an object `.lock/NUMBER`, created only if there is none of this name (generation 0): of two processes that
want it, one gets it. Its holder writes it anew every few seconds, for a sign of life. Who finds one without such signs
creates the next number, and so takes the folder over; the former holder, should it still be there, sees this before
its next write and stops.
"""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sheap_jax.files.json_files import parse_json
from sheap_jax.files.urls import in_bucket

log = logging.getLogger(__name__)

RENEW_SECONDS = 15.0  # between two signs of life
SILENT_SECONDS = 60.0  # without any: the process has ended, or its network
_held: "dict[Path, BucketLock]" = {}


class Seen(NamedTuple):
    """A holder's object as it was read."""

    number: int
    text: bytes
    who: dict[str, Any]

    @property
    def holder(self) -> tuple[int, Any]:
        """Whose it is. A number is used again once its holder has given it back, its token is not."""
        return self.number, self.who.get("token")


class BucketLock:
    """The lock of one folder of a bucket."""

    def __init__(self, folder: Path, who: dict[str, Any]):
        """`who`: what the object says of this process."""
        self.folder, self.number = folder, 0
        self._who = who | {"machine": this_machine(), "token": secrets.token_hex(8)}
        self._beats, self._renewed = 0, _now()
        self._lost: str | None = None
        self._closed, self._renewing = threading.Event(), threading.Lock()

    def take(self, refuse: Callable[[dict[str, Any]], Exception], lives: Callable[[dict[str, Any]], bool]) -> None:
        """Become the holder. Raises what `refuse` makes of who holds it; `lives` tells of a process of this machine."""
        while True:
            found = self._seen()
            last = found[-1] if found else None
            if last is None or last.who.get("token") != self._who["token"]:  # else it is this one's: an answer was lost
                if last is not None and not self._has_ended(last, refuse, lives):
                    continue  # it was given back: who else may have come meanwhile?
                self.number = 1 if last is None else last.number + 1
                try:
                    _bucket(self._place(self.number)).create(self._content())
                except FileExistsError:
                    continue
            known = {self._holder, *(one.holder for one in found)}
            if all(one.holder in known for one in self._seen()):
                break
            self._place(self.number).unlink(missing_ok=True)  # another one came from elsewhere: both look again
            time.sleep(secrets.randbelow(1000) / 1000)
        for one in found:
            if one.number != self.number:
                self._place(one.number).unlink(missing_ok=True)
        self._renewed = _now()
        _held[self.folder] = self
        _guard_changes()
        threading.Thread(target=self._keep, name="bucket-lock", daemon=True).start()

    def give_back(self) -> None:
        self._closed.set()
        _held.pop(self.folder, None)
        with self._renewing:
            if self._lost is not None:
                return
            try:
                if any(one.holder == self._holder for one in self._seen()):  # the number may be another's by now
                    self._place(self.number).unlink(missing_ok=True)
            except OSError as error:  # why the work has ended matters more
                log.warning("the lock of %s could not be given back: %s", self.folder.parent, error)

    def check(self) -> None:
        """Raises OSError if another process has taken the folder over. After a silence the bucket is asked."""
        if self._lost is None and _now() - self._renewed > SILENT_SECONDS / 3:
            self._renew()
        if self._lost is not None:
            raise OSError(self._lost)

    def _has_ended(self, last: Seen, refuse: Any, lives: Any) -> bool:
        """Whether a holder has ended without giving back; False: its object has gone. Raises for a living one."""
        near = last.who.get("machine") == self._who["machine"]
        if not near or lives(last.who):  # a process of this number lives, which may be another one
            where = "a process of this machine" if near else "another machine"
            log.warning(
                "%s was written to by %s: waiting %g s for a sign of its life",
                self.folder.parent,
                where,
                SILENT_SECONDS,
            )
            end = _now() + SILENT_SECONDS
            while _now() < end:
                time.sleep(min(RENEW_SECONDS, SILENT_SECONDS) / 4)
                found = self._seen()
                new = found[-1] if found else None
                if new is None or (new.number <= last.number and new.holder != last.holder):
                    return False
                if new.text != last.text:
                    raise refuse(new.who)
        who = f"process {last.who.get('process')} on {last.who.get('host')}, since {last.who.get('since')},"
        log.warning("%s ended without giving %s back; this process takes it over", who, self.folder.parent)
        return True

    def _keep(self) -> None:
        while not self._closed.wait(RENEW_SECONDS):
            try:
                self._renew()
            except OSError as error:
                log.warning("the lock of %s could not be renewed: %s", self.folder.parent, error)

    def _renew(self) -> None:
        with self._renewing:
            if self._closed.is_set() or self._lost is not None:
                return
            begun = _now()
            if not self._is_last():
                return
            self._beats += 1
            self._place(self.number).write_bytes(self._content())
            if self._is_last():  # the write may have been tried for longer than another one waits
                self._renewed = begun
            else:
                self._place(self.number).unlink(missing_ok=True)

    def _is_last(self) -> bool:
        """Whether this one is still the holder. If not, it is lost for good."""
        if [one.holder for one in self._seen()][-1:] != [self._holder]:
            self._lost = (
                f"{self.folder.parent} was taken over by another process while this one gave no sign of life: "
                "this one stops, the other goes on from the last checkpoint"
            )
        return self._lost is None

    @property
    def _holder(self) -> tuple[int, Any]:
        return self.number, self._who["token"]

    def _content(self) -> bytes:
        return (json.dumps(self._who | {"signs": self._beats}) + "\n").encode()

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _seen(self) -> list[Seen]:
        """The holders that are there, by their numbers. Usually it is one."""
        found = []
        for place in self.folder.glob("*"):
            if not place.name.isdecimal():
                continue
            try:
                text = place.read_bytes()
            except FileNotFoundError:
                continue  # given back meanwhile
            try:
                who = parse_json(text)
            except ValueError:
                who = {}
            found.append(Seen(int(place.name), text, who if isinstance(who, dict) else {}))
        return sorted(found)


def check_held(path: Path) -> None:
    """Raises OSError if `path` lies in a folder of a bucket that was taken over from this process."""
    if in_bucket(path):
        for folder, lock in list(_held.items()):
            if path.is_relative_to(folder.parent) and not path.is_relative_to(folder):
                lock.check()


def _guard_changes() -> None:
    """From now on every change in a bucket asks `check_held`."""
    from sheap_jax.files.bucket_path import guards  # only who has a bucket has the packages

    if check_held not in guards:
        guards.append(check_held)


def _now() -> float:
    """Seconds that also pass while the machine is suspended, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def this_machine() -> str:
    """What processes share that can see one another: the start of the system, and the container."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return secrets.token_hex(8)  # no process of another start can be looked for


def _bucket(path: Path) -> Any:
    """The same path, for methods that only paths of buckets have."""
    return path
