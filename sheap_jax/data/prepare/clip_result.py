"""Converting one clip and storing the result: a part (its records) and a status, each written in one step.

A clip with a valid status is never converted again. The files are named after the clip. A status is valid as long as
its key is the same: that of the settings, the landmarks and the clip's own files.
"""

import functools
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from sheap_jax.data.codec import FORMAT_VERSION, Record, ShardError, decode_record, encode_record
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.convert import ConvertedClip, convert_clip
from sheap_jax.data.prepare.landmarks import LandmarkSource
from sheap_jax.data.prepare.quality import Quality
from sheap_jax.files.json_files import read_json
from sheap_jax.files.regular import read_whole
from sheap_jax.files.whole_file import whole_file

RULES_VERSION = 2  # of what makes records of a clip: with another one, clips are converted again


class Settings(NamedTuple):
    """What decides the records of a clip; stored in the manifest."""

    image_size: int = 224  # pixels
    stride: int = 1  # use every stride-th frame
    max_frames: int = 0  # of a clip, spread over it; 0: no limit
    quality: Quality = Quality()


class Status(NamedTuple):
    """What became of a clip."""

    reason: str | None  # why it failed, None if it did not
    frames: int  # looked at, with or without a face
    skipped: Counter[str]  # of those, left out, by reason
    records: int
    part: str  # SHA-256 of the part


@dataclass(frozen=True)
class ClipConversion:
    """How to convert clips and where to put the results; sent to every process."""

    source: LandmarkSource
    settings: Settings
    folder: Path  # of the parts
    time_limit: float = 600.0  # seconds for one clip

    @functools.cached_property
    def key(self) -> str:
        """Changes with everything that may change a record."""
        values = [FORMAT_VERSION, RULES_VERSION, self.settings, self.source.describe()]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def convert_and_store(clip: Clip, conversion: ClipConversion) -> Status:
    """Convert a clip and store the result; whatever is wrong with the clip becomes a status.

    Raises OSError when the result cannot be stored: then no other clip's could be either.
    """
    settings = conversion.settings
    try:
        converted = convert_clip(
            clip,
            conversion.source,
            image_size=settings.image_size,
            stride=settings.stride,
            max_frames=settings.max_frames,
            quality=settings.quality,
        )
    except PrepareError as error:
        return store_failure(clip, str(error), conversion)
    except Exception as error:  # one odd file among thousands must not end the run; the report names it
        return store_failure(clip, f"unexpected {type(error).__name__}: {error}", conversion)
    part: bytes = msgpack.packb([encode_record(record) for record in converted.records])  # type: ignore[assignment]
    _write(_path(clip, conversion, ".part"), part)
    status = Status(None, converted.frames, converted.skipped, len(converted.records), hashlib.sha256(part).hexdigest())
    _store(clip, status, conversion, **_origin(converted))
    return status


def store_failure(clip: Clip, reason: str, conversion: ClipConversion) -> Status:
    """Note that a clip gave nothing."""
    status = Status(reason, frames=0, skipped=Counter(), records=0, part="")
    _store(clip, status, conversion)
    return status


def load_status(clip: Clip, conversion: ClipConversion) -> Status | None:
    """What became of a clip, None if it has not been converted with these settings."""
    stored = load_row(clip, conversion)
    if stored is None or stored["key"] != _clip_key(clip, conversion):
        return None
    return Status(**{**stored["status"], "skipped": Counter(stored["status"]["skipped"])})


def load_row(clip: Clip, conversion: ClipConversion) -> dict[str, Any] | None:
    """Everything stored about a clip: where it and the crops of its frames come from. None if there is nothing."""
    try:
        return read_json(_path(clip, conversion, ".json"))
    except (FileNotFoundError, ValueError):
        return None


def load_records(clip: Clip, status: Status, conversion: ClipConversion) -> list[Record]:
    """The records of a converted clip.

    Raises:
      PrepareError: the part is missing or damaged; its status is deleted, so that the next run makes it again.
    """
    path = _path(clip, conversion, ".part")
    try:
        part = read_whole(path, most=2**40)  # ours, however large: the checksum vouches for it
        if hashlib.sha256(part).hexdigest() != status.part:
            raise ShardError("wrong checksum")
        return [decode_record(message) for message in msgpack.unpackb(part)]
    except (OSError, ShardError) as error:
        _path(clip, conversion, ".json").unlink(missing_ok=True)
        raise PrepareError(f"{path} of {clip.path} is missing or damaged ({error}): run the command again") from error


def _origin(converted: ConvertedClip) -> dict[str, Any]:
    """Where the records come from, rounded to what pixels can tell."""
    return {
        "rate": round(converted.rate, 3),
        "frame": [record.frame for record in converted.records],
        "seconds": [round(fact.seconds, 4) for fact in converted.facts],
        "crop": [[round(x, 2) for x in (*fact.center, fact.half)] for fact in converted.facts],  # x, y, half side
        "turns": [fact.turns for fact in converted.facts],
        "face": [round(fact.face, 1) for fact in converted.facts],
        "sharpness": [round(fact.sharpness, 1) for fact in converted.facts],
    }


def _store(clip: Clip, status: Status, conversion: ClipConversion, **origin: Any) -> None:
    row = {"identity": clip.identity, "clip": clip.name, "source": clip.source, "key": _clip_key(clip, conversion)}
    text = json.dumps({**row, "status": status._asdict(), **origin})
    _write(_path(clip, conversion, ".json"), text.encode())


def _clip_key(clip: Clip, conversion: ClipConversion) -> str:
    """A clip whose files have other sizes than before is converted again."""
    try:
        sizes = sum(file.stat().st_size for file in clip.files)
    except OSError:
        sizes = -1
    return f"{conversion.key}-{len(clip.files)}-{sizes}"


def _path(clip: Clip, conversion: ClipConversion, suffix: str) -> Path:
    """Files are spread over 256 folders: file systems dislike a million files in one."""
    name = hashlib.sha256(f"{clip.identity}/{clip.name}".encode()).hexdigest()[:24]
    return conversion.folder / name[:2] / f"{name}{suffix}"


def _write(path: Path, content: bytes) -> None:
    """Write a file in one step, even if two processes write it. A part lost with the power is found and made again."""
    with whole_file(path, durable=False) as temporary:
        temporary.write_bytes(content)
