"""Files that grow by rows: lines on a disk, parts in a bucket, the same rows from both."""

import json

import pytest

from sheap_jax.files import row_files
from sheap_jax.files.row_files import RowFile, append_row, keep_rows, parts, read_rows
from sheap_jax.files.urls import open_path
from tests.emulators import BUCKET, gcs_server, use_server


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        use_server(gcs_server(), patch)
        yield f"gs://{BUCKET}"


@pytest.fixture(params=["disk", "bucket"])
def path(request, tmp_path):
    if request.param == "disk":
        return tmp_path / "metrics.jsonl"
    return open_path(request.getfixturevalue("bucket")) / request.node.name / "metrics.jsonl"


def steps(path) -> list[int]:
    return [row["step"] for row in read_rows(path)]


def write(path, numbers) -> None:
    file = RowFile(path)
    for step in numbers:
        file.write({"step": step})
    file.close()


def test_rows_come_back_in_order_from_several_starts(path, monkeypatch):
    monkeypatch.setattr(row_files, "PART_ROWS", 3)
    with pytest.raises(FileNotFoundError):
        read_rows(path)
    write(path, range(1, 9))
    append_row(path, {"step": 9})
    assert steps(path) == list(range(1, 10))


def test_rows_at_the_end_are_removed_and_the_file_goes_on(path, monkeypatch):
    monkeypatch.setattr(row_files, "PART_ROWS", 3)
    keep_rows(path, lambda row: False)  # none there
    write(path, range(1, 9))
    keep_rows(path, lambda row: row["step"] <= 4)
    assert steps(path) == [1, 2, 3, 4]
    write(path, [5, 6])
    keep_rows(path, lambda row: row["step"] <= 9)
    assert steps(path) == [1, 2, 3, 4, 5, 6]


def test_what_was_flushed_is_there_without_an_end(path):
    file = RowFile(path)
    for step in range(1, 5):
        file.write({"step": step})
    file.flush()
    assert steps(path) == [1, 2, 3, 4]
    file.write({"step": 5})
    file.close()
    assert steps(path) == [1, 2, 3, 4, 5]


def test_a_bucket_is_written_to_every_few_seconds_alone(bucket, monkeypatch):
    path = open_path(bucket) / "seldom" / "metrics.jsonl"
    now = [0.0]
    monkeypatch.setattr(row_files.time, "monotonic", lambda: now[0])
    file = RowFile(path)
    seen = []
    for step in range(1, 30):
        file.write({"step": step})
        seen.append(len(read_rows(path)))
        now[0] += 1.0
    assert seen == [1] * 10 + [11] * 10 + [21] * 9
    assert len(parts(path)) == 1


def test_a_run_may_be_copied_to_a_bucket_and_back(bucket, tmp_path):
    there, here = open_path(bucket) / "copied" / "metrics.jsonl", tmp_path / "metrics.jsonl"
    there.write_text('{"step": 1}\n{"step": 2}\n')
    assert steps(there) == [1, 2]
    write(there, [3])
    assert steps(there) == [1, 2, 3]
    here.mkdir()
    for part in parts(there):
        (here / part.name).write_bytes(part.read_bytes())
    write(here, [4])
    keep_rows(here, lambda row: row["step"] != 4)
    assert steps(here) == [1, 2, 3]
    assert json.loads((here / "000001").read_text()) == {"step": 3}
