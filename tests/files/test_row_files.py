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
    assert steps(here) == [1, 2, 3]
    write(here, [4])
    keep_rows(here, lambda row: row["step"] != 4)
    assert steps(here) == [1, 2, 3]
    assert [json.loads(line)["step"] for line in here.read_text().splitlines()] == [1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == [here.name]


@pytest.fixture
def copied(tmp_path):
    """A folder of parts on a disk."""
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    for number, steps in ((2, (3, 4)), (1, (1, 2))):
        (path / f"{number:06d}").write_text("".join(f'{{"step": {step}}}\n' for step in steps))
    return path


def test_a_copied_file_may_lose_all_its_rows(copied):
    keep_rows(copied, lambda row: False)
    keep_rows(copied, lambda row: False)
    assert steps(copied) == []
    write(copied, [1])
    assert steps(copied) == [1]


def test_a_copied_file_is_flushed_with_each_row(copied):
    file = RowFile(copied)
    for step in (5, 6):
        file.write({"step": step})
        assert steps(copied)[-1] == step
    assert len(steps(copied)) == 6


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_while_parts_are_joined_loses_no_row(copied, monkeypatch, moment):
    """At each change of a name in the folder."""
    from pathlib import Path

    real, left = Path.replace, iter([True] * moment)

    def replace(self, target):
        if not next(left, False):
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        if moment < 3:
            with pytest.raises(KeyboardInterrupt):
                RowFile(copied)
        else:
            RowFile(copied).close()
    assert steps(copied) == [1, 2, 3, 4]
    write(copied, [5])
    assert steps(copied) == [1, 2, 3, 4, 5]
    assert [file.name for file in copied.parent.iterdir()] == [copied.name]


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    for number in (999_999, 1_000_000):
        (tmp_path / f"{number:06d}").write_text(f'{{"step": {number}}}\n')
    assert steps(tmp_path) == [999_999, 1_000_000]
