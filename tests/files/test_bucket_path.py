"""Paths in a bucket, against an emulator: whole objects, errors in one line, requests that are tried again."""

import logging
from pathlib import Path

import numpy as np
import pytest

from sheap_jax.files.array_files import read_npz
from sheap_jax.files.json_files import read_json
from sheap_jax.files.places import check_listable, check_writable, files_below, free_bytes, move_below
from sheap_jax.files.urls import in_bucket, open_path
from sheap_jax.files.whole_file import whole_file
from tests.emulators import BUCKET, FaultyServer, every, gcs_server, s3_server, use_s3_server, use_server


@pytest.fixture(scope="module")
def server():
    faulty = FaultyServer(gcs_server())
    with pytest.MonkeyPatch.context() as patch:
        use_server(faulty.address, patch)
        yield faulty
    faulty.close()


@pytest.fixture
def gs_folder(server, request, monkeypatch, tmp_path):
    """A folder of a bucket for one test."""
    monkeypatch.chdir(tmp_path)
    server.failed.clear()
    yield open_path(f"gs://{BUCKET}/{request.node.name}")
    server.fails = lambda method, path: None
    assert list(tmp_path.iterdir()) == []  # no folder `gs:`


@pytest.fixture
def s3_folder(request, monkeypatch, tmp_path):
    use_s3_server(s3_server(), monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield open_path(f"s3://{BUCKET}/{request.node.name}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["gs", "s3"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


def names(folder) -> list[str]:
    return [str(file.relative_to(folder)) for file in files_below(folder)]


def test_it_behaves_as_a_path(folder):
    assert in_bucket(folder)
    assert str(folder / "a" / "b.json") == f"{folder}/a/b.json"
    assert (folder / "a").parent == folder.absolute() == folder.resolve()
    assert not folder.exists()
    assert not folder.is_dir()
    with pytest.raises(FileNotFoundError, match=r"there is no such object: .*nothing"):
        (folder / "nothing").read_bytes()
    (folder / "a" / "b.json").write_text("{}")
    assert folder.is_dir()
    assert (folder / "a/b.json").is_file()
    assert (folder / "a/b.json").stat().st_size == 2
    assert list(folder.iterdir()) == [folder / "a"]
    assert list(folder.glob("a/*.json")) == [folder / "a/b.json"]
    with (folder / "a/b.json").open() as stream:
        assert stream.read() == "{}"
    (folder / "a/b.json").unlink()
    (folder / "a/b.json").unlink(missing_ok=True)
    assert not folder.exists()


def test_an_object_is_whole_or_not_there(folder):
    with whole_file(folder / "a.npz") as made:
        assert isinstance(made, Path)
        assert made.suffix == ".npz"
        np.savez(made, a=np.arange(3))
    np.testing.assert_array_equal(read_npz(folder / "a.npz")["a"], [0, 1, 2])
    with pytest.raises(ZeroDivisionError), whole_file(folder / "config.json") as made:
        made.write_text(str(1 / 0))
    assert names(folder) == ["a.npz"]
    (folder / "config.json").write_text('{"name": 1}')
    assert read_json(folder / "config.json") == read_json(str(folder / "config.json")) == {"name": 1}


def test_of_two_that_create_an_object_one_gets_it(folder):
    (folder / "lock").create(b"first")
    with pytest.raises(FileExistsError):
        (folder / "lock").create(b"second")
    assert (folder / "lock").read_bytes() == b"first"


def test_what_folders_of_disks_can(folder):
    check_listable(folder)
    check_writable(folder)
    assert names(folder) == []
    assert free_bytes(folder) is None
    for name in ("checkpoints/3/a/b", "checkpoints/3/c", "checkpoints/30/c", "checkpoints/3.json", "damaged/3/old"):
        (folder / name).write_text(name)
    move_below(folder / "checkpoints/3", folder / "damaged")
    move_below(folder / "checkpoints/3.json", folder / "damaged")
    moved = ["damaged/3.json", "damaged/3/a/b", "damaged/3/c"]
    assert sorted(names(folder)) == ["checkpoints/30/c", *moved, "damaged/3/old"]
    assert (folder / "damaged/3/a/b").read_text() == "checkpoints/3/a/b"


def test_a_bucket_that_is_not_there_is_named_and_not_made(folder):
    elsewhere = open_path(f"{str(folder).partition(':')[0]}://nowhere/run")
    with pytest.raises(FileNotFoundError, match="there is no bucket nowhere"):
        check_writable(elsewhere)
    elsewhere.mkdir(parents=True, exist_ok=True)
    assert not elsewhere.parent.exists()


def test_a_request_that_fails_now_and_then_is_sent_again(gs_folder, server):
    folder = gs_folder
    server.fails = every(4)
    for number in range(4):
        (folder / f"{number}").write_text(str(number))
    assert [(folder / f"{number}").read_text() for number in range(4)] == ["0", "1", "2", "3"]
    assert server.failed


def test_a_bucket_that_is_busy_for_longer_is_waited_for(gs_folder, monkeypatch, caplog):
    from sheap_jax.files import bucket_path

    folder = gs_folder

    answers = [OSError(16, "SlowDown"), ConnectionError("reset"), TimeoutError()]
    answers[0].__dict__["code"] = 503
    waits: list[float] = []
    monkeypatch.setattr(bucket_path.time, "sleep", waits.append)

    def request(system, name):
        if answers:
            raise answers.pop(0)
        return "done"

    with caplog.at_level(logging.WARNING):
        assert folder._ask(request) == "done"
    assert waits == list(bucket_path.DELAYS[:3])
    assert caplog.text.count("trying again in") == 3
    answers[:] = [ConnectionError("reset")] * 9
    with pytest.raises(OSError, match=rf"^{folder}: the request failed \(ConnectionError: reset\)$"):
        folder._ask(request)
    assert len(waits) == 3 + len(bucket_path.DELAYS)


@pytest.mark.parametrize("status", [401, 403])
def test_expired_credentials_are_one_line_at_once(gs_folder, server, status):
    folder = gs_folder
    (folder / "kept").write_text("whole")
    server.fails = lambda method, path: status
    for request in (folder.exists, lambda: (folder / "kept").write_text("new"), (folder / "kept").read_bytes):
        with pytest.raises(PermissionError, match=r"access was refused .*gcloud auth application-default") as caught:
            request()
        assert "\n" not in str(caught.value)
    assert len(server.failed) <= 2 * 3
    server.fails = lambda method, path: None
    assert (folder / "kept").read_text() == "whole"


def test_expired_credentials_of_s3_are_one_line_too(s3_folder):
    error = PermissionError("The provided token has expired.")
    with pytest.raises(PermissionError, match=r"^s3://.*access was refused .*renew the AWS credentials"):
        s3_folder._ask(lambda system, name: (_ for _ in ()).throw(error))


def test_a_server_that_gives_out_credentials_may_be_away(gs_folder, monkeypatch):
    """gcsfs says 401 then, as for expired ones. Only the cause tells."""
    from gcsfs.retry import HttpError
    from google.auth.exceptions import RefreshError, TransportError

    from sheap_jax.files import bucket_path

    monkeypatch.setattr(bucket_path.time, "sleep", lambda seconds: None)

    def failing(*causes):
        tries = []

        def request(system, name):
            tries.append(name)
            error = None
            for cause in causes:
                cause.__cause__, error = error, cause
            assert error is not None
            raise error

        with pytest.raises(OSError, match=f"^{gs_folder}") as caught:
            gs_folder._ask(request)
        return len(tries), type(caught.value)

    invalid = {"code": 401, "message": "Invalid Credentials"}
    for causes in (
        (TransportError("metadata"), RefreshError("metadata"), HttpError(invalid)),
        (RefreshError("busy", retryable=True), HttpError(invalid)),
        (TransportError("metadata"),),
    ):
        assert failing(*causes) == (1 + len(bucket_path.DELAYS), OSError)
    assert failing(RefreshError("revoked"), HttpError(invalid)) == (1, PermissionError)


def test_gcsfs_takes_the_class_that_is_tested(gs_folder):
    import fsspec

    assert type(fsspec.filesystem("gs")).__name__ == "GCSFileSystem"
