"""The shard format: nothing is lost on the way, and every damage is named."""

import errno
import hashlib
import json
import pickle
import shutil
import types

import msgpack
import numpy as np
import pytest
from tiny_clips import make_record, make_records

from sheap_jax.data import records as records_module
from sheap_jax.data.manifest import remove_split
from sheap_jax.data.records import ShardError, Split, decode_record, encode_record, write_split
from sheap_jax.files.one_writer import InUseError
from tests.other_writer import other_writer


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_split(folder, "train", make_records(), settings={"size": 16}, provenance={"by": "test"}, records_per_shard=5)
    return folder


@pytest.fixture
def folder(pristine, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "shards")


def assert_same(found, expected):
    assert found[:4] == expected[:4]
    assert found.landmarks.dtype == found.weights.dtype == np.float32
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)
    np.testing.assert_array_equal(found.weights, expected.weights)


# --- one record


def test_record_survives_the_round_trip():
    record = make_record("zoë", "clip/with slash", 7)
    assert_same(decode_record(encode_record(record)), record)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"landmarks": np.zeros((68, 3), np.float32)}, "landmarks"),
        ({"weights": np.zeros(67, np.float32)}, "weights"),
        ({"image": b"\x89PNG"}, "JPEG"),
    ],
)
def test_malformed_record_is_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=rf"ann/a0/3.*{words}"):
        encode_record(make_record("ann", "a0", 3, **changes))


def damaged(**changes) -> bytes:
    message = msgpack.unpackb(encode_record(make_record("ann", "a0", 3)))
    return msgpack.packb({**message, **changes})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xc1 not msgpack", "not a readable record"),
        (msgpack.packb([1, 2]), "not a readable record"),
        (damaged(version=99), "version 99"),
        (damaged(landmarks=bytes(12)), "missing or damaged"),
        (damaged(weights=None), "missing or damaged"),
    ],
)
def test_damaged_message_is_named_by_the_key_of_the_index(pristine, data, words, monkeypatch):
    with pytest.raises(ShardError, match=words):
        decode_record(data)
    split = Split(pristine, "train")
    monkeypatch.setattr(split, "_reader", lambda shard: types.SimpleNamespace(read=lambda offsets: [data]))
    with pytest.raises(ShardError, match=rf"ann/a0/4 in .*train-00000.*{words}"):
        split[2]


# --- a split


def test_split_gives_back_every_record(pristine):
    expected = make_records()
    split = Split(pristine, "train")
    assert len(split) == len(expected) == 12
    for i, record in enumerate(expected):
        assert_same(split[i], record)
        assert split.key(i) == f"{record.identity}/{record.clip}/{record.frame}"
    assert [r.frame for r in split] == [r.frame for r in expected]
    names = split.index.identity_names[split.index.identity]
    assert names.tolist() == [r.identity for r in expected]
    with pytest.raises(IndexError, match="12 records"):
        split[12]


def test_manifest_tells_size_and_checksum_of_every_file(pristine):
    entry = json.loads((pristine / "manifest.json").read_text())["splits"]["train"]
    assert [s["records"] for s in entry["shards"]] == [5, 5, 2]
    assert entry["shards"][1]["file"] == "train-00001-of-00003.array_record"
    assert (entry["records"], entry["identities"], entry["clips"]) == (12, 4, 6)
    assert (entry["settings"], entry["provenance"]) == ({"size": 16}, {"by": "test"})
    for file in [*entry["shards"], entry["index"]]:
        content = (pristine / file["file"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    listed = {f["file"] for f in [*entry["shards"], entry["index"]]} | {"manifest.json"}
    assert {p.name for p in pristine.iterdir()} == listed


def test_same_records_give_the_same_shards(pristine, tmp_path):
    write_split(tmp_path, "train", iter(make_records()), settings={}, records_per_shard=5)
    for path in pristine.glob("*.array_record"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_split_travels_to_another_process(pristine):
    split = Split(pristine, "train")
    before = split[7]  # opens a reader, which must stay behind
    assert_same(pickle.loads(pickle.dumps(split))[7], before)


def test_second_split_and_replacement_leave_the_others_alone(folder):
    write_split(folder, "val", make_records({"eva": {"e": 2}}), settings={})
    write_split(folder, "train", make_records({"fay": {"f": 3}}), settings={})
    assert [Split(folder, "val").key(i) for i in range(2)] == ["eva/e/0", "eva/e/2"]
    assert len(Split(folder, "train")) == 3
    assert sorted(p.name for p in folder.glob("train*.array_record")) == ["train-00000-of-00001.array_record"]


def test_shards_of_a_killed_run_are_cleared_away(folder):
    write_split(folder, "train-more", make_records({"eva": {"e": 2}}), settings={})
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["splits"]["train"]  # killed between the shards and the manifest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ShardError, match="no split 'train'"):
        Split(folder, "train")
    write_split(folder, "train", make_records({"fay": {"f": 3}}), settings={})
    names = ["train-00000-of-00001.array_record", "train-more-00000-of-00001.array_record"]
    assert sorted(p.name for p in folder.glob("*.array_record")) == names
    Split(folder, "train-more").verify()


# --- what cannot be written


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("ann", "a", 0), ("ann", "b", 0), ("ann", "a", 1)], "ann/a/1: another clip came between"),
        ([("ann", "a", 3), ("ann", "a", 3)], "ann/a/3: frame numbers must grow"),
        ([], "no records"),
    ],
)
def test_unusable_order_or_nothing_at_all(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        write_split(tmp_path, "train", [make_record(*row) for row in rows], settings={})
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A shard writer on a disk that fills up, at a write or, as the library does it, only at closing."""

    def __init__(self, path, *, at_close):
        self.at_close, self.count = at_close, 0
        path.write_bytes(b"half a shard")

    def write(self, message):
        self.count += 1
        if not self.at_close and self.count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        if self.at_close:
            raise RuntimeError("write() failed: No space left on device")


@pytest.mark.parametrize("at_close", [False, True])
def test_full_disk_keeps_the_older_split(folder, monkeypatch, at_close):
    before = sorted(p.name for p in folder.iterdir())
    monkeypatch.setattr(records_module, "_open_writer", lambda path: FullDisk(path, at_close=at_close))
    with pytest.raises(ShardError, match=r"'train' could not be written.*No space left.*free some space"):
        write_split(folder, "train", make_records({"fay": {"f": 7}}), settings={}, records_per_shard=5)
    assert sorted(p.name for p in folder.iterdir()) == before
    Split(folder, "train").verify()
    assert Split(folder, "train").key(0) == "ann/a0/0"


def test_full_disk_at_the_index_leaves_nothing(tmp_path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records_module.np, "savez", no_space)
    with pytest.raises(ShardError, match="No space left"):
        write_split(tmp_path, "train", make_records(), settings={})
    assert list(tmp_path.iterdir()) == []


def test_failure_of_the_source_is_not_called_a_full_disk(folder):
    def broken_video():
        yield make_record("fay", "f", 0)
        raise OSError("cannot decode fay.mp4")

    with pytest.raises(OSError, match=r"fay\.mp4"):
        write_split(folder, "train", broken_video(), settings={})
    assert not list(folder.glob(".*"))
    Split(folder, "train").verify()


def test_two_processes_do_not_write_to_one_directory(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with (
        other_writer(folder / ".lock") as process,
        pytest.raises(InUseError, match=f"is written to by process {process.pid} on "),
    ):
        write_split(folder, "test", make_records(), settings={})
    (folder / ".lock").unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_links_are_not_followed_and_what_a_killed_process_left_is_removed(folder, tmp_path):
    """The names of temporary files were known once: a link in their place had its target overwritten."""
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    for name in (".train-00000.tmp", ".train-index.tmp.npz", ".train-00001.0123456789abcdef.tmp"):
        (folder / name).symlink_to(precious)
    write_split(folder, "train", make_records(), settings={})
    assert precious.read_text() == "mine"
    assert not list(folder.glob(".train-0*"))


def test_shards_are_on_the_disk_before_the_manifest_names_them(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(records_module, "to_disk", lambda path: order.append(path.name.split(".")[1]))
    monkeypatch.setattr(records_module, "write_manifest", lambda *_: order.append("manifest"))
    write_split(tmp_path, "train", make_records(), settings={}, records_per_shard=5)
    assert order == ["train-00000", "train-00001", "train-00002", "train-index", "manifest"]


# --- what cannot be read

SECOND = "train-00001-of-00003.array_record"


def blacken(path):
    path.write_bytes(bytes(path.stat().st_size))


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def extend(path):
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (SECOND, lambda path: path.unlink(), "is missing: re-copy"),
        (SECOND, truncate, "has 100 bytes.*truncated or altered.*re-copy"),
        (SECOND, extend, "truncated or altered"),
        ("train-index.npz", lambda path: path.unlink(), "is missing"),
        ("train-index.npz", blacken, "is damaged"),
        ("manifest.json", lambda path: path.unlink(), "is missing: prepare the data first"),
        ("manifest.json", truncate, "is damaged"),
    ],
)
def test_damaged_file_is_named_at_opening(folder, name, damage, words):
    damage(folder / name)
    with pytest.raises(ShardError, match=f"{name}.*{words}"):
        Split(folder, "train")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        "{}",
        '{"splits": []}',
        '{"splits": {"train": {"shards": [], "index": {}, "format_version": 1}}}',
        '{"splits": {"train": {"shards": [{"file": "../x", "bytes": 1}], "index": {"file": "i", "bytes": 1}}}}',
    ],
)
def test_what_is_no_manifest_is_refused_and_deletes_nothing(folder, content):
    """A manifest names the files that its split loses: none may lie elsewhere."""
    (folder / "manifest.json").write_text(content)
    (folder.parent / "x").write_text("mine")
    for use in (lambda: Split(folder, "train"), lambda: remove_split(folder, "train")):
        with pytest.raises(ShardError, match=r"manifest\.json is (damaged|no manifest)"):
            use()
    assert (folder.parent / "x").exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("identity", np.full(3, 99, np.int32), "differ in length"),
        ("frame", np.zeros(9), "no whole numbers"),
        ("identity_names", np.array(["ann"]), "does not list"),
        ("clip", None, "clip"),
    ],
)
def test_an_index_that_does_not_fit_is_named(folder, field, value, words):
    with np.load(folder / "train-index.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays[field] = value
    if value is None:
        del arrays[field]
    elif field == "frame":
        arrays[field] = np.zeros(len(arrays["identity"]))
    np.savez(folder / "train-index.npz", **arrays)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["train"]["index"]["bytes"] = (folder / "train-index.npz").stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ShardError, match=rf"index.*is damaged.*{words}"):
        Split(folder, "train")


def test_unknown_split_and_foreign_version(folder):
    with pytest.raises(ShardError, match=r"no split 'test', only \['train'\]"):
        Split(folder, "test")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["train"]["format_version"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ShardError, match="version 2, this code reads 1"):
        Split(folder, "train")


def test_flipped_bytes_are_found_by_verify_and_by_reading(folder):
    path = folder / SECOND
    record = Split(folder, "train")[6]
    content = bytearray(path.read_bytes())
    content[content.index(record.image) + 20] ^= 0xFF
    path.write_bytes(content)
    split = Split(folder, "train")  # the size is right: opening stays cheap and cannot know
    with pytest.raises(ShardError, match=SECOND) as error:
        split.verify()
    assert "train-00000" not in str(error.value)
    with pytest.raises(ShardError, match=f"{split.key(6)} in .*{SECOND} is unreadable"):
        split[6]
    assert split.key(0) == split[0].key


def test_swapped_shards_are_noticed(folder):
    first = folder / "train-00000-of-00003.array_record"
    assert first.stat().st_size == (folder / SECOND).stat().st_size
    first.rename(folder / "other")
    (folder / SECOND).rename(first)
    (folder / "other").rename(folder / SECOND)
    with pytest.raises(ShardError, match=r"ann/a0/0.*two versions"):
        Split(folder, "train")[0]
