"""The shard format: how a split of frames is written and read.

A split is a set of ArrayRecord files `{split}-00000-of-0000N.array_record` with one msgpack message per frame, an index
`{split}-index.npz` that says whose frame it is, and an entry in `manifest.json` with the size and checksum of each
file. The frames of a clip lie together. The index exists so that pairs can be drawn without opening a single shard.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from sheap_jax.data.codec import FORMAT_VERSION, Record, ShardError, decode_record, encode_record

__all__ = ["Record", "ShardError", "Split", "SplitIndex", "decode_record", "encode_record", "write_split"]

MANIFEST = "manifest.json"
_WRITER_OPTIONS = "group_size:1,uncompressed"  # one record per chunk, so that any record is one read
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class SplitIndex(NamedTuple):
    """Whose frame each record is, R records in order; names are looked up in the two name arrays."""

    identity: Int32[np.ndarray, "r"]
    clip: Int32[np.ndarray, "r"]
    frame: Int32[np.ndarray, "r"]
    shard: Int32[np.ndarray, "r"]
    offset: Int32[np.ndarray, "r"]  # position of the record in its shard
    identity_names: np.ndarray
    clip_names: np.ndarray


class _IndexBuilder:
    """Collects the index while records pass and refuses an order that readers could not rely on."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.identities: dict[str, int] = {}
        self.clips: dict[tuple[str, str], int] = {}

    def add(self, record: Record, shard: int, offset: int) -> None:
        clip_key = (record.identity, record.clip)
        if clip_key in self.clips:
            if self.clips[clip_key] != len(self.clips) - 1:
                raise ValueError(
                    f"record {record.key}: the frames of a clip must follow each other, this clip was left"
                )
            if record.frame <= self.rows[-1][2]:
                raise ValueError(
                    f"record {record.key}: the frame number must grow, the last one was {self.rows[-1][2]}"
                )
        identity = self.identities.setdefault(record.identity, len(self.identities))
        clip = self.clips.setdefault(clip_key, len(self.clips))
        self.rows.append((identity, clip, int(record.frame), shard, offset))

    def build(self) -> SplitIndex:
        columns = np.asarray(self.rows, np.int32).T
        names = np.array(list(self.identities)), np.array([clip for _, clip in self.clips])
        return SplitIndex(*columns, *names)


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

    Everything is written under temporary names first: a failure leaves the older split as it was.

    Args:
      settings: what made the records (JSON values), stored in the manifest.
      provenance: where they come from: sources and licences (JSON values), stored in the manifest.

    Raises:
      ValueError: no records, a malformed one, or frames of a clip that are not contiguous and ascending.
      ShardError: a file could not be written, for instance because the disk is full.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    temporary: list[Path] = []
    try:
        builder, counts = _write_shards(directory, split, records, records_per_shard, temporary)
        index_file = directory / f".{split}-index.tmp.npz"
        temporary.append(index_file)
        np.savez(index_file, **builder.build()._asdict())
        names = [f"{split}-{i:05d}-of-{len(counts):05d}.array_record" for i in range(len(counts))]
        shards = [
            {"file": name, "records": count, **_fingerprint(path)}
            for name, count, path in zip(names, counts, temporary[:-1], strict=True)
        ]
        entry = {
            "format_version": FORMAT_VERSION,
            "records": sum(counts),
            "identities": len(builder.identities),
            "clips": len(builder.clips),
            "shards": shards,
            "index": {"file": f"{split}-index.npz", **_fingerprint(index_file)},
            "settings": dict(settings),
            "provenance": dict(provenance or {}),
        }
        _publish(directory, split, entry, temporary)
    except OSError as error:
        raise ShardError(
            f"split {split!r} could not be written to {directory}: {error}; free some space or choose another "
            "directory and run again (nothing of it was kept)"
        ) from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _write_shards(
    directory: Path, split: str, records: Iterable[Record], records_per_shard: int, temporary: list[Path]
) -> tuple[_IndexBuilder, list[int]]:
    """Write the shards under temporary names, which are appended to `temporary`; the index and counts per shard."""
    builder, counts, writer = _IndexBuilder(), [], None
    try:
        for record in records:
            if writer is None or counts[-1] == records_per_shard:
                if writer is not None:
                    _close(writer)
                temporary.append(directory / f".{split}-{len(counts):05d}.tmp")
                writer = _open_writer(temporary[-1])
                counts.append(0)
            builder.add(record, len(counts) - 1, counts[-1])
            _checked(writer.write, encode_record(record))
            counts[-1] += 1
    finally:
        if writer is not None:
            _close(writer)
    if not counts:
        raise ValueError(f"split {split!r} has no records: every clip was empty or failed; see the preparation report")
    return builder, counts


def _open_writer(path: Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordWriter

    return ArrayRecordWriter(str(path), _WRITER_OPTIONS)


def _close(writer: Any) -> None:
    """Close a shard; the library buffers, so that a full disk may show only here."""
    _checked(writer.close)


def _checked(call: Any, *args: Any) -> None:
    """Call the shard library, which reports system errors as RuntimeError, as if it were Python's own I/O."""
    try:
        call(*args)
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _fingerprint(path: Path) -> dict[str, Any]:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _publish(directory: Path, split: str, entry: dict[str, Any], temporary: list[Path]) -> None:
    """Give the finished files their names. The manifest entry goes first and comes last, so it never lies."""
    manifest = _read_manifest(directory) if (directory / MANIFEST).exists() else {"splits": {}}
    previous = manifest["splits"].pop(split, None)
    if previous is not None:
        _write_manifest(directory, manifest)
    files = [shard["file"] for shard in entry["shards"]] + [entry["index"]["file"]]
    for path, name in zip(temporary, files, strict=True):
        path.replace(directory / name)
    manifest["splits"][split] = entry
    _write_manifest(directory, manifest)
    for shard in previous["shards"] if previous else ():
        if shard["file"] not in files:
            (directory / shard["file"]).unlink(missing_ok=True)


def _write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    path = directory / f".{MANIFEST}.tmp"
    try:
        path.write_text(json.dumps(manifest, indent=2) + "\n")
        path.replace(directory / MANIFEST)
    finally:
        path.unlink(missing_ok=True)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ShardError(
            f"{path} is missing: prepare the data first, or point to the directory of the shards"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{path} is damaged ({error}): re-copy it or prepare the data again") from error


class Split:
    """Random access to the records of one split. Picklable: every process opens its own readers.

    Raises:
      ShardError: at opening when a file is missing or has another size than the manifest says (truncated copy).
    """

    def __init__(self, directory: str | os.PathLike[str], split: str) -> None:
        self.directory, self.name = Path(directory), split
        splits = _read_manifest(self.directory)["splits"]
        if split not in splits:
            raise ShardError(f"{self.directory / MANIFEST} has no split {split!r}, only {sorted(splits)}")
        self.manifest: dict[str, Any] = splits[split]
        if self.manifest["format_version"] != FORMAT_VERSION:
            found = self.manifest["format_version"]
            raise ShardError(
                f"{self.directory}: format version {found}, this code reads {FORMAT_VERSION}; prepare it again"
            )
        for file in self._files():
            self._check_size(file)
        with np.load(self.directory / self.manifest["index"]["file"]) as index:
            self.index = SplitIndex(*(index[name] for name in SplitIndex._fields))
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.index.identity)

    def __getitem__(self, i: int) -> Record:
        """Record `i`; a damaged one raises ShardError with the key and the file."""
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of split {self.name!r} with {len(self)} records")
        shard, offset = int(self.index.shard[i]), int(self.index.offset[i])
        try:
            data = self._reader(shard).read([offset])[0]
        except (RuntimeError, IndexError, OSError) as error:
            path = self.directory / self.manifest["shards"][shard]["file"]
            raise ShardError(
                f"record {self.key(i)} in {path} is unreadable ({error}); re-copy or re-generate it"
            ) from error
        record = decode_record(data, key=self.key(i))
        if record.key != self.key(i):
            raise ShardError(
                f"record {self.key(i)}: the shard holds {record.key} there; index and shards do not belong together"
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
        row = self.index
        return f"{row.identity_names[row.identity[i]]}/{row.clip_names[row.clip[i]]}/{row.frame[i]}"

    def verify(self) -> None:
        """Compare the checksum of every file with the manifest: reads everything.

        Raises:
          ShardError: names every file that differs.
        """
        damaged = [
            f["file"] for f in self._files() if _fingerprint(self.directory / f["file"])["sha256"] != f["sha256"]
        ]
        if damaged:
            raise ShardError(
                f"{self.directory}: checksum differs for {', '.join(damaged)}; re-copy or re-generate them"
            )

    def _files(self) -> list[dict[str, Any]]:
        return [*self.manifest["shards"], self.manifest["index"]]

    def _check_size(self, file: dict[str, Any]) -> None:
        path = self.directory / file["file"]
        if not path.exists():
            raise ShardError(f"shard {path} is missing; re-copy it or prepare the split {self.name!r} again")
        size = path.stat().st_size
        if size != file["bytes"]:
            raise ShardError(
                f"shard {path} has {size} bytes, the manifest says {file['bytes']}: truncated or altered; "
                f"re-copy it or prepare the split {self.name!r} again"
            )

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if shard not in self._readers:
                path = self.directory / self.manifest["shards"][shard]["file"]
                self._readers[shard] = ArrayRecordReader(str(path), _READER_OPTIONS)
            return self._readers[shard]
