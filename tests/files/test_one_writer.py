"""Who may write to a directory: a living process is named, a dead one is taken over from."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from sheap_jax.files import one_writer as module
from sheap_jax.files.one_writer import LOCK, InUseError, one_writer
from tests.other_writer import other_writer

CLAIM = """
import sys
from pathlib import Path
from sheap_jax.files.one_writer import one_writer
with one_writer(Path(sys.argv[1]), way_out=""):
    print("held")
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes to `tmp_path`."""
    with other_writer(tmp_path / LOCK) as process:
        yield process


def claim(folder) -> None:
    with one_writer(folder, way_out="name another one"):
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()


def test_a_living_process_is_named_and_a_killed_one_taken_over_from(tmp_path, holder, caplog):
    host = socket.gethostname()
    words = rf"is written to by process {holder.pid} on {host}, since \d+-.*: wait for its end, or name another one$"
    with pytest.raises(InUseError, match=words):
        claim(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with caplog.at_level(logging.WARNING):
        claim(tmp_path)
    assert f"process {holder.pid} on {host}" in caplog.text
    assert "ended without giving" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_given_back_is_claimed_silently(tmp_path, caplog):
    claim(tmp_path)
    claim(tmp_path)
    assert not caplog.records


def test_a_process_may_claim_more_than_once_and_has_it_until_the_outer_end(tmp_path):
    with one_writer(tmp_path, way_out=""):
        with one_writer(tmp_path, way_out=""):
            pass
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        other = subprocess.run(
            [sys.executable, "-c", CLAIM, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
        )
        assert f"InUseError: {tmp_path} is written to by process {os.getpid()} on" in other.stderr
        assert other.stdout == ""


def test_a_lock_that_is_removed_while_one_waits_to_take_it_is_not_the_lock(tmp_path, monkeypatch):
    """Its holder ends between opening and locking: to lock the removed file would keep nobody out."""
    real, calls = module._lock, []

    def lock_a_removed_file(file):
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(file)
        real(file)

    monkeypatch.setattr(module, "_lock", lock_a_removed_file)
    claim(tmp_path)
    assert len(calls) == 2


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    other = tmp_path / "precious.txt"
    other.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / LOCK).symlink_to(other)
    with pytest.raises(OSError, match=LOCK):
        claim(folder)
    assert other.read_text() == "mine"


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.json, "dumps", full)
    with pytest.raises(OSError, match="No space left"):
        claim(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_the_name_decides(tmp_path, monkeypatch, caplog):
    def no_locks(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module, "_lock", no_locks)
    own = {"host": socket.gethostname(), "process": os.getpid(), "since": "2026-01-01 00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(own))
    claim(tmp_path)  # a process of this number was there before: in a container numbers come again
    (tmp_path / LOCK).write_text(json.dumps(own | {"process": os.getppid()}))
    with pytest.raises(InUseError, match=f"process {os.getppid()} on"):
        claim(tmp_path)
    dead = own | {"process": 2**22 + 1}
    (tmp_path / LOCK).write_text(json.dumps(dead))
    caplog.clear()
    claim(tmp_path)
    assert "cannot be locked" in caplog.text
    assert "since 2026-01-01 00:00:00 ended without giving" in caplog.text
    (tmp_path / LOCK).write_text(json.dumps(dead | {"host": "elsewhere"}))
    caplog.clear()
    claim(tmp_path)
    assert f"that process {2**22 + 1} on elsewhere, since 2026-01-01 00:00:00 has ended" in caplog.text
    assert "without giving" not in caplog.text
