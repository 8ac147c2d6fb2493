"""Another process that writes to a directory, as far as its lock shows it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOLD = """
import fcntl, json, os, socket, sys
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": "2026-01-01 00:00:00"}
    file.write(json.dumps(holder))
    file.flush()
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_writer(lock: Path) -> Iterator[subprocess.Popen]:
    """A process that holds a lock while the `with` block runs, or until it is killed."""
    pytest.importorskip("fcntl", reason="locks of files are tested where the system has POSIX's")
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
