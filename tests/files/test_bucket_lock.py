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
from sheap_jax.files.places import files_below, move_below, upload_all
from sheap_jax.files.urls import open_path
from sheap_jax.files.whole_file import whole_file
from tests.emulators import BUCKET, gcs_server, use_server

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from sheap_jax.files import bucket_lock
from sheap_jax.files.one_writer import one_writer
from sheap_jax.files.urls import open_path
bucket_lock.RENEW_SECONDS = 0.1
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
        assert process.poll() is None
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


def test_a_process_number_that_another_process_has_by_now_is_no_holder(folder, monkeypatch):
    """It gives no sign of life. The parent of the tests lives."""
    monkeypatch.setattr(bucket_lock, "this_machine", lambda: "here")
    written_by(folder, machine="here", host=socket.gethostname(), process=os.getppid())
    assert claim(folder)["process"] == os.getpid()


def test_a_number_that_was_given_back_and_taken_anew_is_another_holder(folder, monkeypatch):
    """While this process creates the next number, the one that it found goes, and a newcomer takes the same."""
    signs = iter(range(1, 100))
    content = bucket_lock.BucketLock._content

    def slow(self):
        written_by(folder, token="newcomer")
        monkeypatch.setattr(
            bucket_lock.time, "sleep", lambda seconds: written_by(folder, token="newcomer", signs=next(signs))
        )
        return content(self)

    monkeypatch.setattr(bucket_lock.BucketLock, "_content", slow)
    written_by(folder)
    with pytest.raises(InUseError, match="process 12 on pod-7"):
        claim(folder)
    assert holder_of(folder)["token"] == "newcomer"


def test_who_waits_for_a_holder_that_gives_back_looks_anew(folder, monkeypatch):
    gone = folder / ".lock/000003"
    monkeypatch.setattr(bucket_lock.time, "sleep", lambda seconds: gone.unlink(missing_ok=True))
    written_by(folder)
    with one_writer(folder, way_out=""):
        assert [place.name for place in (folder / ".lock").iterdir()] == ["000001"]


def taken_over(folder) -> None:
    """By another process, while this one has given no sign of life for long."""
    bucket_lock._held[folder / ".lock"]._renewed -= 100
    written_by(folder, token="new")


@pytest.mark.parametrize("moment", ["before it is tried again", "while it is written"])
def test_a_write_that_lasts_is_refused_once_another_has_taken_over(folder, monkeypatch, moment):
    import fsspec

    from sheap_jax.files import bucket_path

    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 100.0)
    monkeypatch.setattr(bucket_path, "DELAYS", (0.0,))
    system = fsspec.filesystem("gs")
    real, tries = system.put_file, []

    def put(file, name):
        tries.append(name)
        taken_over(folder)
        if moment == "before it is tried again":
            raise TimeoutError
        return real(file, name)

    with one_writer(folder, way_out=""):
        monkeypatch.setattr(system, "put_file", put)
        with pytest.raises(OSError, match="taken over by another process"), whole_file(folder / "a.json") as made:
            made.write_text("the old holder's")
    assert len(tries) == 1
    assert (folder / "a.json").exists() == (moment == "while it is written")


def test_who_was_taken_over_from_removes_and_moves_nothing(folder, monkeypatch, tmp_path):
    (tmp_path / "events").write_text("old")
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 100.0)
    (folder / "checkpoints/1/a").write_text("new")
    with one_writer(folder, way_out=""):
        taken_over(folder)
        place = folder / "checkpoints/1"
        for change in (
            (place / "a").unlink,
            lambda: move_below(place, folder / "damaged"),
            lambda: upload_all(tmp_path, folder / "b"),
        ):
            with pytest.raises(OSError, match="taken over by another process"):
                change()
    left = [str(file.relative_to(folder)) for file in files_below(folder)]
    assert [name for name in left if not name.startswith(".lock")] == ["checkpoints/1/a"]


def test_a_late_sign_of_life_is_taken_back(folder, monkeypatch):
    """The write is tried for so long that another process takes over meanwhile, and removes the number."""
    from sheap_jax.files.bucket_path import BucketPath

    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 100.0)
    real = BucketPath.write_bytes

    def late(self, data):
        if self.name == "000001":
            self.unlink()
            written_by(folder)
        return real(self, data)

    with one_writer(folder, way_out=""):
        monkeypatch.setattr(BucketPath, "write_bytes", late)
        bucket_lock._held[folder / ".lock"]._renew()
        assert [place.name for place in (folder / ".lock").iterdir()] == ["000003"]
        with pytest.raises(OSError, match="taken over by another process"):
            check_held(folder / "a.json")


def test_time_goes_on_while_the_machine_is_suspended(monkeypatch):
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system does not count it")
    monkeypatch.setattr(bucket_lock.time, "clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.__getitem__)
    assert bucket_lock._now() == 7.0
