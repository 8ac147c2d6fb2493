"""Who may write to a folder of a bucket: a living process is named, a dead one is taken over from."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheap_jax.files import bucket_lock
from sheap_jax.files.bucket_lock import check_held
from sheap_jax.files.one_writer import InUseError, one_writer
from sheap_jax.files.urls import open_path
from sheap_jax.files.whole_file import whole_file
from tests.emulators import BUCKET, gcs_server, use_server

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from sheap_jax.files.one_writer import one_writer
from sheap_jax.files.urls import open_path
with one_writer(open_path(sys.argv[1]), way_out=""):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True, scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        use_server(gcs_server(), patch)
        yield


@pytest.fixture
def folder(request, monkeypatch):
    """A folder of the bucket for one test, with quick locks."""
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(bucket_lock, "SILENT_SECONDS", 0.8)
    return open_path(f"gs://{BUCKET}/{request.node.name}")


def holder_of(folder) -> dict:
    (place,) = (folder / ".lock").iterdir()
    return json.loads(place.read_text())


def claim(folder) -> dict:
    with one_writer(folder, way_out="name another one"), one_writer(folder, way_out="again"):
        return holder_of(folder)


def written_by(folder, **fields: object) -> None:
    """The lock of another process."""
    who = {
        "host": "pod-7",
        "process": 12,
        "since": "2026-01-01 00:00:00",
        "machine": "another",
        "token": "x",
        "signs": 0,
    }
    (folder / ".lock/000003").write_text(json.dumps(who | fields))


def test_a_living_process_is_named_and_a_killed_one_taken_over_from(folder, caplog):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        words = rf"is written to by process {process.pid} on {socket.gethostname()}, since .*, or name another one$"
        with pytest.raises(InUseError, match=words):
            claim(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert claim(folder)["process"] == os.getpid()
    assert f"process {process.pid} on" in caplog.text
    assert "ended without giving" in caplog.text
    assert not folder.exists()


def test_a_folder_that_was_given_back_is_claimed_silently(folder, caplog):
    claim(folder)
    claim(folder)
    assert not caplog.records


def test_another_machine_is_waited_for_and_taken_over_from_if_it_is_silent(folder, caplog):
    written_by(folder)
    start = time.monotonic()
    assert claim(folder)["process"] == os.getpid()
    assert time.monotonic() - start > bucket_lock.SILENT_SECONDS
    assert "process 12 on pod-7" in caplog.text


def test_another_machine_that_gives_signs_of_life_keeps_the_folder(folder, monkeypatch):
    signs = iter(range(1, 100))
    monkeypatch.setattr(bucket_lock.time, "sleep", lambda seconds: written_by(folder, signs=next(signs)))
    written_by(folder)
    with pytest.raises(InUseError, match="process 12 on pod-7"):
        claim(folder)


def test_signs_of_life_are_given(folder):
    with one_writer(folder, way_out=""):
        end = time.monotonic() + 20
        while holder_of(folder)["signs"] < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert holder_of(folder)["signs"] >= 2


def test_who_was_taken_over_from_writes_nothing_more(folder, monkeypatch):
    with one_writer(folder, way_out=""):
        with whole_file(folder / "a.json") as made:
            made.write_text("1")
        written_by(folder)
        held = bucket_lock._held[folder / ".lock"]
        held._renew()
        with pytest.raises(OSError, match="taken over by another process"), whole_file(folder / "a.json") as made:
            made.write_text("2")
        check_held(folder.parent / "elsewhere")
    assert (folder / "a.json").read_text() == "1"
    assert (folder / ".lock/000003").exists()


def test_an_answer_that_was_lost_is_no_other_holder(folder, monkeypatch):
    """The object is there, and the request that made it ends with an error."""
    from sheap_jax.files.bucket_path import BucketPath

    real, lost = BucketPath.create, []

    def create(self, data):
        real(self, data)
        if not lost:
            lost.append(self)
            raise FileExistsError

    monkeypatch.setattr(BucketPath, "create", create)
    assert claim(folder)["process"] == os.getpid()
    assert lost
