"""train.py on a file system that fails now and then: what `benchmarks/accidents.py` starts in its place.

FAIL_BELOW, FAIL_SHARE and FAIL_SEED: this share of the calls that open, list, rename or sync below a folder raises an
error that passes. FAIL_EVENTS: from this one on, TensorBoard's events find a full disk.
"""

import builtins
import errno
import io
import os
import random
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES, errno.ENOMEM)
CALLS = ("open", "replace", "rename", "mkdir", "listdir", "scandir", "fsync")  # of `os`


def fail_at_random(below: str, share: float, seed: int) -> None:
    """Interpose the functions."""
    generator = random.Random(seed)

    def interposed(real: Callable, name: str) -> Callable:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            place = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
            if str(place).startswith(below) and generator.random() < share:
                code = generator.choice(PASSING)
                print(f"injected: {name} {place}: {os.strerror(code)}", file=sys.stderr, flush=True)
                raise OSError(code, os.strerror(code), str(place))
            return real(path, *arguments, **options)

        return call

    builtins.open = io.open = interposed(io.open, "open")
    for name in CALLS:
        setattr(os, name, interposed(getattr(os, name), name))


def fill_disk_of_events(first: int) -> None:
    """TensorBoard's writer fails from this event on."""
    from tensorboardX.event_file_writer import EventsWriter

    real, written = EventsWriter.write_event, []

    def write(self: Any, event: Any) -> Any:
        written.append(event)
        if len(written) >= first:
            print("injected: TensorBoard's disk is full", file=sys.stderr, flush=True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, event)

    EventsWriter.write_event = write


if __name__ == "__main__":
    script = Path(__file__).resolve().parents[1] / "train.py"
    if "FAIL_EVENTS" in os.environ:
        fill_disk_of_events(int(os.environ["FAIL_EVENTS"]))
    if "FAIL_BELOW" in os.environ:
        fail_at_random(os.environ["FAIL_BELOW"], float(os.environ["FAIL_SHARE"]), int(os.environ["FAIL_SEED"]))
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")
