"""From the parts of all clips to shards: sorted by identity and clip, so that names alone decide the order."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from sheap_jax.data.codec import Record, ShardError
from sheap_jax.data.manifest import MANIFEST, read_manifest, remove_split
from sheap_jax.data.prepare.clip_result import ClipConversion, Status, load_records, load_row, load_status
from sheap_jax.data.prepare.clips import Clip, FoundClips, PrepareError
from sheap_jax.data.records import Split, write_split
from sheap_jax.files.json_files import as_read
from sheap_jax.files.whole_file import whole_file

HOLD_OUT_RULES = ("identities", "frames")
SPLITS = ("train", "test")


class HoldOut(NamedTuple):
    """What the split `test` is made of."""

    share: float = 0.0
    rule: str = "identities"  # whole people, or the last frames of every clip


class PreparationReport(NamedTuple):
    """What happened to the inputs."""

    clips: int  # found
    failed: list[dict[str, str]]  # file and reason of everything that gave nothing
    frames: int  # looked at in the clips that did not fail
    skipped: Counter[str]  # of those, left out, by reason
    written: dict[str, int]  # records by split
    removed: Sequence[str] = ()  # splits of an earlier command that have no record any more


class _Piece(NamedTuple):
    """The records of a clip that belong to a split."""

    clip: Clip
    status: Status
    records: range


def pack(
    found: FoundClips, conversion: ClipConversion, output: Path, *, hold_out: HoldOut, provenance: Mapping[str, Any]
) -> PreparationReport:
    """Write the splits `train` and, with a test share, `test`; also `<split>-clips.jsonl` and `failed.json`.

    A split that would come out the same is left alone. A split of an earlier command that is empty now is removed,
    since the other split holds its frames. If all clips failed, nothing is removed.

    Raises:
      PrepareError: a clip has not been converted, or its part is damaged.
      ShardError: the shards cannot be written.
    """
    statuses = [(clip, _finished(clip, conversion)) for clip in tqdm(found.clips, desc="collecting", unit="clip")]
    good = [(clip, status) for clip, status in statuses if status.reason is None]
    failed = [{"file": str(clip.path), "reason": status.reason} for clip, status in statuses if status.reason]
    failed += [{"file": str(path), "reason": reason} for path, reason in found.refused]
    skipped = sum((status.skipped for _, status in good), Counter())
    frames = sum(status.frames for _, status in good)
    if frames != sum(status.records for _, status in good) + skipped.total():
        raise PrepareError(f"the counts of frames in {conversion.folder} do not add up: delete it and run again")
    with whole_file(output / "failed.json") as temporary:
        temporary.write_text(json.dumps(failed, indent=2) + "\n")
    account = {"clips": len(found.clips), "failed": len(failed), "frames": frames, "left_out": dict(skipped)}
    settings = {
        **conversion.settings._asdict(),
        "quality": conversion.settings.quality._asdict(),
        "hold_out": hold_out._asdict(),
    }
    origin = {**provenance, **conversion.source.describe(), **account}
    of_split = {split: _pieces(good, split, hold_out) for split in SPLITS}
    removed = [split for split in SPLITS if good and not of_split[split] and _remove(output, split)]
    for split, pieces in of_split.items():
        content: dict[str, Any] = {"settings": settings, "provenance": {**origin, "parts": _digest(pieces)}}
        if pieces and not _is_there(output, split, content):
            _write_rows(pieces, conversion, output / f"{split}-clips.jsonl")
            write_split(output, split, _records(pieces, conversion, split), **content)
    written = {split: sum(len(piece.records) for piece in pieces) for split, pieces in of_split.items()}
    return PreparationReport(len(found.clips), failed, frames, skipped, written, removed)


def check_kept(found: FoundClips, output: Path) -> None:
    """Raises PrepareError if splits in `output` hold clips that are not among the found ones: packing drops those.

    Raises PrepareError as well if a split is too damaged to say what it holds.
    """
    if not (output / MANIFEST).exists():
        return
    try:
        there = [Split(output, split).index for split in SPLITS if split in read_manifest(output)["splits"]]
    except ShardError as error:
        raise PrepareError(f"{error} (--replace writes the split anew, whatever it held)") from error
    held = {clip for index in there for clip in index.clips()}
    lost = sorted(held - {(clip.identity, clip.name) for clip in found.clips})
    if lost:
        names = ", ".join("/".join(clip) for clip in lost[:3]) + (", ..." if len(lost) > 3 else "")
        raise PrepareError(
            f"{output} holds clips that are not among these inputs, {len(lost)} in all ({names}): give all inputs "
            "together, choose another --output, or leave them out with --replace"
        )


def _finished(clip: Clip, conversion: ClipConversion) -> Status:
    status = load_status(clip, conversion)
    if status is None:
        raise PrepareError(f"{clip.path} has no result in {conversion.folder}: run the command again")
    return status


def _pieces(clips: Sequence[tuple[Clip, Status]], split: str, hold_out: HoldOut) -> list[_Piece]:
    if hold_out.rule == "frames":
        pieces = []
        for clip, status in clips:
            kept = status.records - round(hold_out.share * status.records)
            pieces.append(_Piece(clip, status, range(kept) if split == "train" else range(kept, status.records)))
    else:
        held_out = held_out_identities([clip.identity for clip, _ in clips], hold_out.share)
        chosen = [(clip, status) for clip, status in clips if (clip.identity in held_out) == (split == "test")]
        pieces = [_Piece(clip, status, range(status.records)) for clip, status in chosen]
    return [piece for piece in pieces if piece.records]


def held_out_identities(identities: Sequence[str], share: float) -> set[str]:
    """A share of the people, at least one and never all; nobody for share 0. The choice depends on their names only."""
    names = sorted(set(identities), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return set(names[:count]) if share else set()


def _digest(pieces: Sequence[_Piece]) -> str:
    """Changes with every byte of the records."""
    rows = [[*piece.clip[:2], piece.status.part, [piece.records.start, piece.records.stop]] for piece in pieces]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _is_there(output: Path, split: str, content: Mapping[str, Any]) -> bool:
    if not (output / MANIFEST).exists():
        return False
    entry = read_manifest(output)["splits"].get(split, {})
    return all(entry.get(name) == as_read(value) for name, value in content.items())


def _remove(output: Path, split: str) -> bool:
    """Whether there was such a split to remove."""
    (output / f"{split}-clips.jsonl").unlink(missing_ok=True)
    return remove_split(output, split)


def _records(pieces: Sequence[_Piece], conversion: ClipConversion, split: str) -> Iterator[Record]:
    for piece in tqdm(pieces, desc=f"packing {split}", unit="clip"):
        records = load_records(piece.clip, piece.status, conversion)
        yield from records[piece.records.start : piece.records.stop]


def _write_rows(pieces: Sequence[_Piece], conversion: ClipConversion, path: Path) -> None:
    """One JSON line per clip: source, frame rate, and for every record frame, time, crop, face size and sharpness."""
    with whole_file(path) as temporary, temporary.open("w") as file:
        for piece in pieces:
            row = load_row(piece.clip, conversion) or {}
            part = slice(piece.records.start, piece.records.stop)
            kept = {name: row[name] for name in ("identity", "clip", "source", "rate")}
            kept |= {name: row[name][part] for name in ("frame", "seconds", "crop", "turns", "face", "sharpness")}
            file.write(json.dumps(kept) + "\n")


def summary(report: PreparationReport) -> str:
    """The report in words: every failed file with its reason, frames left out by reason, what was written."""
    lines = [f"failed: {entry['file']}: {entry['reason']}" for entry in report.failed]
    lines += [f"{count} frames left out: {reason}" for reason, count in report.skipped.most_common()]
    lines += [f"the split {split} of an earlier command was removed: it is empty now" for split in report.removed]
    gone = len(report.failed)
    lines.append(f"{report.clips} clips found; {gone} files gave nothing (listed in failed.json)")
    records = ", ".join(f"{count} {split}" for split, count in report.written.items() if count)
    lines.append(f"{report.frames} frames looked at; records: {records or 'none'}")
    return "\n".join(lines)
