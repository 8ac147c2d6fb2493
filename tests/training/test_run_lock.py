"""Who may write to a run: a living process is named, a dead one is taken over from."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from sheap_jax.config_files import ConfigError
from sheap_jax.training import run_lock
from sheap_jax.training.run_lock import LOCK, RunLock

HOLD = """
import sys, time
from pathlib import Path
from sheap_jax.training.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    pytest.importorskip("fcntl", reason="locks of files are tested where the system has POSIX's")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_living_process_is_named_and_a_killed_one_taken_over_from(tmp_path, holder, caplog):
    host = socket.gethostname()
    words = rf"another training is writing to .* \(process {holder.pid} on {host}, since \d+-.*: wait for its end"
    with pytest.raises(ConfigError, match=words):
        RunLock(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with caplog.at_level(logging.WARNING):
        lock = RunLock(tmp_path)
    assert f"process {holder.pid} on {host}" in caplog.text
    assert "ended without giving" in caplog.text
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    lock.close()
    assert (tmp_path / LOCK).read_text() == ""


def test_a_lock_that_was_given_back_is_taken_silently(tmp_path, caplog):
    RunLock(tmp_path).close()
    RunLock(tmp_path).close()
    assert not caplog.records


def test_where_there_are_no_locks_the_name_decides(tmp_path, monkeypatch, caplog):
    def no_locks(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_lock, "_lock", no_locks)
    RunLock(tmp_path)
    RunLock(tmp_path).close()  # a process of this number was there before: in a container numbers come again
    living = {"host": socket.gethostname(), "process": os.getppid(), "since": "2026-01-01 00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(living))
    with pytest.raises(ConfigError, match=f"process {os.getppid()} on"):
        RunLock(tmp_path)
    dead = {"host": socket.gethostname(), "process": 2**22 + 1, "since": "2026-01-01 00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(dead))
    caplog.clear()
    RunLock(tmp_path).close()
    assert "cannot be locked" in caplog.text
    assert "since 2026-01-01 00:00:00 ended without giving" in caplog.text
    (tmp_path / LOCK).write_text(json.dumps(dead | {"host": "elsewhere"}))
    caplog.clear()
    RunLock(tmp_path).close()
    assert f"that process {2**22 + 1} on elsewhere, since 2026-01-01 00:00:00 has ended" in caplog.text
    assert "without giving" not in caplog.text
