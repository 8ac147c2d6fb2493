"""Preparing a whole collection: every file ends up in the shards or in the report, every frame in a count."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from sheap_jax.data.codec import Record
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.convert import convert_clip
from sheap_jax.data.prepare.landmarks import LandmarkSource
from sheap_jax.data.records import write_split

HOLD_OUT_RULES = ("identities", "frames")


class Settings(NamedTuple):
    """How to prepare; stored in the manifest."""

    image_size: int = 224  # pixels
    stride: int = 1  # use every stride-th frame
    identity_from: str = "video"
    test_share: float = 0.0
    hold_out: str = "identities"  # what the test share is taken of: whole people, or the last frames of every clip


class Report(NamedTuple):
    """What happened to the inputs."""

    clips: int  # found
    failed: list[dict[str, str]]  # file and reason of each clip that gave nothing
    frames: int  # looked at in the clips that did not fail
    skipped: Counter[str]  # of those, left out, by reason
    written: dict[str, int]  # records by split


class _Progress:
    """Converts clips one after another and keeps the account."""

    def __init__(self, source: LandmarkSource, settings: Settings, bar: Any) -> None:
        self.source, self.settings, self.bar = source, settings, bar
        self.failed: list[dict[str, str]] = []
        self.skipped: Counter[str] = Counter()
        self.frames = 0

    def convert(self, clip: Clip) -> list[Record]:
        """The records of a clip, none if it failed."""
        try:
            converted = convert_clip(
                clip, self.source, image_size=self.settings.image_size, stride=self.settings.stride
            )
        except PrepareError as error:
            return self._fail(clip, str(error))
        except Exception as error:  # one odd file among thousands must not end the run; the report names it
            return self._fail(clip, f"unexpected {type(error).__name__}: {error}")
        finally:
            self.bar.update()
        self.frames += converted.frames
        self.skipped += converted.skipped
        self.bar.set_postfix(frames=self.frames, failed=len(self.failed))
        return converted.records

    def _fail(self, clip: Clip, reason: str) -> list[Record]:
        self.failed.append({"file": str(clip.path), "reason": reason})
        self.bar.write(f"failed: {clip.path}: {reason}")
        return []


def prepare(clips: Sequence[Clip], source: LandmarkSource, output: Path, *, settings: Settings) -> Report:
    """Convert all clips and write the splits `train` and, with a test share, `test`; also `failed.json`.

    A clip that fails is reported and the others go on. Nothing is written if every clip failed.
    """
    training, test = list(clips), []
    if settings.test_share and settings.hold_out == "identities":
        held_out = held_out_identities([clip.identity for clip in clips], settings.test_share)
        training = [clip for clip in clips if clip.identity not in held_out]
        test = [clip for clip in clips if clip.identity in held_out]
    written: dict[str, int] = {}
    with tqdm(total=len(clips), desc="preparing", unit="clip") as bar:
        progress = _Progress(source, settings, bar)
        last_frames: list[Record] = []  # in memory: holding out frames is meant for a few videos
        share = settings.test_share if settings.hold_out == "frames" else 0.0
        splits: dict[str, Iterator[Record]] = {"train": _train_records(progress, training, share, last_frames)}
        splits["test"] = _test_records(progress, test, last_frames)
        for split, records in splits.items():
            written[split] = _write(output, split, records, settings)
    report = Report(len(clips), progress.failed, progress.frames, progress.skipped, written)
    output.mkdir(parents=True, exist_ok=True)
    (output / "failed.json").write_text(json.dumps(report.failed, indent=2) + "\n")
    return report


def _train_records(
    progress: _Progress, clips: Sequence[Clip], test_share: float, last_frames: list[Record]
) -> Iterator[Record]:
    """All records, except that the last `test_share` of every clip go to `last_frames`."""
    for clip in clips:
        records = progress.convert(clip)
        kept = len(records) - round(test_share * len(records))
        last_frames += records[kept:]
        yield from records[:kept]


def _test_records(progress: _Progress, clips: Sequence[Clip], last_frames: list[Record]) -> Iterator[Record]:
    yield from last_frames
    for clip in clips:
        yield from progress.convert(clip)


def _write(output: Path, split: str, records: Iterator[Record], settings: Settings) -> int:
    """Write a split unless it is empty; the number of records."""
    counted = _Counted(records)
    first = next(counted, None)
    if first is None:
        return 0
    write_split(output, split, _chain(first, counted), settings=settings._asdict())
    return counted.count


class _Counted(Iterator[Record]):
    def __init__(self, records: Iterator[Record]) -> None:
        self.records, self.count = records, 0

    def __next__(self) -> Record:
        record = next(self.records)
        self.count += 1
        return record


def _chain(first: Record, others: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from others


def held_out_identities(identities: Sequence[str], share: float) -> set[str]:
    """A share of the people, at least one and never all; the choice depends on their names only."""
    names = sorted(set(identities), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return set(names[:count])


def summary(report: Report) -> str:
    """The report in words: every failed file with its reason, frames left out by reason, what was written."""
    lines = [f"failed: {entry['file']}: {entry['reason']}" for entry in report.failed]
    lines += [f"{count} frames left out: {reason}" for reason, count in report.skipped.most_common()]
    used = report.clips - len(report.failed)
    lines.append(f"{used} of {report.clips} clips used, {len(report.failed)} failed (listed in failed.json)")
    records = ", ".join(f"{count} {split}" for split, count in report.written.items() if count)
    lines.append(f"{report.frames} frames looked at; records written: {records or 'none'}")
    return "\n".join(lines)
