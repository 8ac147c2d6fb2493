"""The shard format: how a split of frames is written and read.

A split is a set of ArrayRecord files `{split}-00000-of-0000N.array_record` with one msgpack message per frame, an index
`{split}-index.npz` that says whose frame it is, and an entry in `manifest.json` with the size and checksum of each
file. The frames of a clip lie together. The index exists so that pairs can be drawn without opening a single shard.
"""

import contextlib
import os
import secrets
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from sheap_jax.data.codec import FORMAT_VERSION, Record, ShardError, decode_record, encode_record
from sheap_jax.data.manifest import MANIFEST, check_size, fingerprint, read_manifest, write_manifest
from sheap_jax.files.array_files import read_npz
from sheap_jax.files.one_writer import one_writer
from sheap_jax.files.whole_file import to_disk

__all__ = ["Record", "ShardError", "Split", "SplitIndex", "decode_record", "encode_record", "write_split"]

_WRITER_OPTIONS = "group_size:1,uncompressed"  # one record per chunk, so that any record is one read
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class SplitIndex(NamedTuple):
    """Whose frame each record is, R records in order; names are looked up in the two name arrays."""

    identity: Int32[np.ndarray, "r"]
    clip: Int32[np.ndarray, "r"]
    frame: Int32[np.ndarray, "r"]
    shard: Int32[np.ndarray, "r"]
    offset: Int32[np.ndarray, "r"]  # position of the record in its shard
    identity_names: Shaped[np.ndarray, "i"]
    clip_names: Shaped[np.ndarray, "c"]

    def clips(self) -> set[tuple[str, str]]:
        """(identity, clip) of all clips, by name."""
        rows = np.unique(np.stack([self.identity, self.clip]), axis=1)
        names = zip(self.identity_names[rows[0]], self.clip_names[rows[1]], strict=True)
        return {(str(identity), str(clip)) for identity, clip in names}

    def key(self, i: int) -> str:
        """`identity/clip/frame` of record `i`, for messages."""
        return f"{self.identity_names[self.identity[i]]}/{self.clip_names[self.clip[i]]}/{self.frame[i]}"


class _IndexBuilder:
    """Collects the index while records pass and refuses an order that readers could not rely on."""

    def __init__(self) -> None:
        self.columns = tuple(array("i") for _ in range(5))  # identity, clip, frame, shard, offset
        self.identities: dict[str, int] = {}
        self.clips: dict[tuple[str, str], int] = {}

    def add(self, record: Record, shard: int, offset: int) -> None:
        clip_key = (record.identity, record.clip)
        if clip_key in self.clips:
            last_frame = self.columns[2][-1]
            if self.clips[clip_key] != self.columns[1][-1]:
                raise ValueError(f"record {record.key}: another clip came between; write a clip's frames together")
            if record.frame <= last_frame:
                raise ValueError(f"record {record.key}: frame numbers must grow within a clip, last was {last_frame}")
        identity = self.identities.setdefault(record.identity, len(self.identities))
        clip = self.clips.setdefault(clip_key, len(self.clips))
        for column, value in zip(self.columns, (identity, clip, record.frame, shard, offset), strict=True):
            column.append(int(value))

    def build(self) -> SplitIndex:
        identity, clip, frame, shard, offset = (np.array(column, np.int32) for column in self.columns)
        clip_names = np.array([clip for _, clip in self.clips])
        return SplitIndex(identity, clip, frame, shard, offset, np.array(list(self.identities)), clip_names)


def write_split(
    directory: str | os.PathLike[str],
    split: str,
    records: Iterable[Record],
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    records_per_shard: int = 1024,
) -> None:
    """Write `records` as the split `split`, replacing an older one; other splits in `directory` stay.

    Everything is written under temporary names first: a failure leaves no half file and keeps the older split.

    Args:
      settings: what made the records (JSON values), stored in the manifest.
      provenance: where they come from: sources and licences (JSON values), stored in the manifest.

    Raises:
      ValueError: no records, a malformed one, or frames of a clip that are not contiguous and ascending.
      ShardError: a file could not be written, for instance because the disk is full.
      InUseError: another process writes to the directory.
    """
    directory = Path(directory)
    with _disk_errors(directory, split):
        directory.mkdir(parents=True, exist_ok=True)
    with one_writer(directory, way_out="write to another directory"):
        _remove_left(directory, split)
        shard_files: list[Path] = []
        index_file = directory / f".{split}-index.{secrets.token_hex(8)}.tmp.npz"
        try:
            builder, counts = _write_shards(directory, split, records, records_per_shard, shard_files)
            with _disk_errors(directory, split):
                np.savez(index_file, allow_pickle=False, **builder.build()._asdict())
                names = [f"{split}-{i:05d}-of-{len(counts):05d}.array_record" for i in range(len(counts))]
                files = zip(names, counts, shard_files, strict=True)
                entry = {
                    "format_version": FORMAT_VERSION,
                    "records": sum(counts),
                    "identities": len(builder.identities),
                    "clips": len(builder.clips),
                    "shards": [{"file": name, "records": count, **fingerprint(path)} for name, count, path in files],
                    "index": {"file": f"{split}-index.npz", **fingerprint(index_file)},
                    "settings": dict(settings),
                    "provenance": dict(provenance or {}),
                }
                _publish(directory, split, entry, [*shard_files, index_file])
        finally:
            for path in (*shard_files, index_file):
                path.unlink(missing_ok=True)


def _remove_left(directory: Path, split: str) -> None:
    """Remove what a killed process has left of this split: temporary files, which nobody else writes now."""
    for pattern in (f".{split}-[0-9]*.tmp", f".{split}-index.*.tmp.npz"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def _write_shards(
    directory: Path, split: str, records: Iterable[Record], records_per_shard: int, files: list[Path]
) -> tuple[_IndexBuilder, list[int]]:
    """Write the shards under temporary names, and append these to `files`. Returns the index and the shards' counts."""
    builder, counts, writer = _IndexBuilder(), [], None
    mark = secrets.token_hex(8)
    try:
        for record in records:
            if writer is None or counts[-1] == records_per_shard:
                _close_writer(writer, directory, split)
                files.append(directory / f".{split}-{len(counts):05d}.{mark}.tmp")
                counts.append(0)
                writer = _open_writer(files[-1])
            builder.add(record, len(counts) - 1, counts[-1])
            message = encode_record(record)
            with _disk_errors(directory, split):
                writer.write(message)
            counts[-1] += 1
    finally:
        _close_writer(writer, directory, split)
    if not counts:
        raise ValueError(f"split {split!r} has no records: every clip was empty or failed; see the preparation report")
    return builder, counts


def _open_writer(path: Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordWriter

    return ArrayRecordWriter(str(path), _WRITER_OPTIONS)


def _close_writer(writer: Any, directory: Path, split: str) -> None:
    """Close a shard; the library buffers, so that a full disk may show only here."""
    if writer is not None:
        with _disk_errors(directory, split):
            writer.close()


@contextlib.contextmanager
def _disk_errors(directory: Path, split: str) -> Iterator[None]:
    """Turn failures to write into one message; ArrayRecord reports them as RuntimeError, Python as OSError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(
            f"split {split!r} could not be written to {directory}: {error}. Nothing of it was kept: "
            "free some space or choose another directory, then run again"
        ) from error


def _publish(directory: Path, split: str, entry: dict[str, Any], written: list[Path]) -> None:
    """Give the finished files their names. The manifest loses the old entry first and gets the new one last.

    So it never has an entry for files that are not there.
    """
    manifest = read_manifest(directory) if (directory / MANIFEST).exists() else {"splits": {}}
    if manifest["splits"].pop(split, None) is not None:
        write_manifest(directory, manifest)
    names = [shard["file"] for shard in entry["shards"]] + [entry["index"]["file"]]
    for path in written:
        to_disk(path)
    for path, name in zip(written, names, strict=True):
        path.replace(directory / name)
    manifest["splits"][split] = entry
    write_manifest(directory, manifest)
    # Shards that no manifest lists go, also those that a killed run left behind.
    for path in directory.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9]*.array_record"):
        if path.name not in names:
            path.unlink()


def _checked(index: SplitIndex) -> SplitIndex:
    """The index; ValueError if a record is one of another length, or has a name that is not there."""
    columns = index.identity, index.clip, index.frame, index.shard, index.offset
    if any(column.dtype.kind != "i" or column.shape != index.identity.shape for column in columns):
        raise ValueError("its columns differ in length, or are no whole numbers")
    if index.identity.ndim != 1 or index.identity_names.ndim != 1 or index.clip_names.ndim != 1:
        raise ValueError("its columns are no lists")
    for column, names in ((index.identity, index.identity_names), (index.clip, index.clip_names)):
        if column.size and not 0 <= column.min() <= column.max() < len(names):
            raise ValueError("it names a person or clip that it does not list")
    return index


def _read_index(path: Path) -> SplitIndex:
    way_out = "re-copy it or prepare the data again"
    try:
        arrays = read_npz(path, SplitIndex._fields, kind="index", way_out=way_out)
    except (ValueError, OSError) as error:
        raise ShardError(str(error)) from error
    try:
        return _checked(SplitIndex(**{name: arrays[name] for name in SplitIndex._fields}))
    except (ValueError, KeyError) as error:
        raise ShardError(f"index {path} is damaged ({error}): {way_out}") from error


class Split:
    """Random access to the records of one split. Picklable: every process opens its own readers.

    Raises:
      ShardError: at opening, when a file is missing or has another size than the manifest says.
    """

    def __init__(self, directory: str | os.PathLike[str], split: str) -> None:
        self.directory, self.name = Path(directory), split
        splits = read_manifest(self.directory)["splits"]
        if split not in splits:
            raise ShardError(
                f"{self.directory / MANIFEST} has no split {split!r}, only {sorted(splits)}: prepare it (again)"
            )
        self.manifest: dict[str, Any] = splits[split]
        found = self.manifest["format_version"]
        if found != FORMAT_VERSION:
            raise ShardError(
                f"split {split!r} in {self.directory} has format version {found}, this code reads {FORMAT_VERSION}: "
                "prepare it again"
            )
        for file in self._files():
            check_size(self.directory / file["file"], file["bytes"])
        self.index = _read_index(self.directory / self.manifest["index"]["file"])
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.index.identity)

    def __getitem__(self, i: int) -> Record:
        """Record `i`. Raises ShardError with its key and file when it cannot be read."""
        i = int(i)
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of split {self.name!r}, which has {len(self)} records")
        index, shard = self.index, int(self.index.shard[i])
        try:
            record = decode_record(self._reader(shard).read([int(index.offset[i])])[0])
        except (RuntimeError, IndexError, OSError) as error:
            raise ShardError(
                f"record {self.key(i)} in {self._shard_file(shard)} is unreadable ({error}): re-copy or re-generate it"
            ) from error
        # Compare field by field: to build the key of every record would take longer than to read it.
        if record.frame != index.frame[i] or record.identity != index.identity_names[index.identity[i]]:
            raise ShardError(
                f"record {self.key(i)} in {self._shard_file(shard)}: found {record.key} there; "
                "shards and index are of two versions"
            )
        return record

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_readers", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _readers={}, _lock=threading.Lock())

    def key(self, i: int) -> str:
        """`identity/clip/frame` of record `i`, for messages."""
        return self.index.key(i)

    def verify(self) -> None:
        """Compare the checksum of every file with the manifest; reads everything.

        Raises:
          ShardError: names every file that differs.
        """
        damaged = [f["file"] for f in self._files() if fingerprint(self.directory / f["file"])["sha256"] != f["sha256"]]
        if damaged:
            raise ShardError(f"{self.directory}: wrong checksum of {', '.join(damaged)}: re-copy or re-generate them")

    def _files(self) -> list[dict[str, Any]]:
        return [*self.manifest["shards"], self.manifest["index"]]

    def _shard_file(self, shard: int) -> Path:
        return self.directory / self.manifest["shards"][shard]["file"]

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        if shard in self._readers:
            return self._readers[shard]
        with self._lock:  # Grain reads from several threads; one reader serves them all
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(str(self._shard_file(shard)), _READER_OPTIONS)
            return self._readers[shard]
