"""Where the faces are in a picture, and which face of one frame is which of the next."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.cropping import CropBox, crop_box, crop_detection, follow_box
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.landmarks import LandmarkSource, entry_of
from sheap_jax.data.prepare.quality import unusable

BOX_SIDES = ("left", "top", "right", "bottom")


class FaceFinder(Protocol):
    """Crops of the faces of one clip after another, its frames in order."""

    def start(self, clip: Clip) -> None:
        """Prepare for a clip; PrepareError if there is nothing for it."""
        ...

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        """The crop of each face in frame `number`; there may be none."""
        ...

    def finish(self, frames: int) -> None:
        """Called with the number of frames that the clip turned out to have; PrepareError if that does not fit."""
        ...


class LandmarkFaces:
    """Faces from landmarks: MediaPipe's, or those of a file."""

    def __init__(self, source: LandmarkSource) -> None:
        self.start, self.finish, self._source = source.start, source.finish, source

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        faces = self._source.detect(number, image)
        return [crop_box(points) for points in faces if not unusable(points, image)]


class BoxFaces:
    """Faces from a CSV file with the columns file, left, top, right, bottom in pixels, and perhaps frame.

    A row is a face. Files are recognised by as much of their path as is stated. The rows of a video without a frame
    hold for all of its frames.
    """

    def __init__(self, path: Path) -> None:
        """ValueError if a column is missing or a number is none; names it."""
        self.path = path
        self._entries: dict[tuple[str, ...], dict[int | None, list[CropBox]]] = {}
        with open(path, newline="") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in ("file", *BOX_SIDES) if name not in (rows.fieldnames or ())]
            if missing:
                raise ValueError(f"{path} lacks the column {', '.join(missing)}; its first line names the columns")
            for row in rows:
                try:
                    self._add(row)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {rows.line_num}: {error}") from error

    def _add(self, row: dict[str, str]) -> None:
        frame = int(row["frame"]) if row.get("frame") else None
        box = crop_detection(np.array([float(row[side]) for side in BOX_SIDES]))
        self._entries.setdefault(Path(row["file"]).parts, defaultdict(list))[frame].append(box)

    def start(self, clip: Clip) -> None:
        found = entry_of(clip.path, self._entries)
        if found is None:
            raise PrepareError(f"no box for {clip.path.name} in {self.path.name}")
        self._boxes = found

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        return self._boxes.get(number, []) + self._boxes.get(None, [])

    def finish(self, frames: int) -> None:
        last = max((frame for frame in self._boxes if frame is not None), default=0)
        if last >= frames:
            raise PrepareError(f"has {frames} frames, but {self.path.name} has a box for frame {last} (from 0)")


class WholePicture:
    """Pictures that are face crops already, framed as in docs/prediction.md."""

    def start(self, clip: Clip) -> None:
        """Nothing to do."""

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        size = np.array(image.shape[1::-1], np.float64)
        return [CropBox(size / 2, size.max() / 2)]

    def finish(self, frames: int) -> None:
        """Nothing to do."""


class Unstated:
    """Nobody said where the faces are: the first picture that needs one is refused."""

    def start(self, clip: Clip) -> None:
        raise PrepareError(
            f"where the face is in {clip.path.name} is not stated: --face-landmarker MODEL.task finds it (needs "
            "mediapipe), --landmarks or --boxes name files that know it, --cropped takes the picture as it is"
        )

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        """Never reached."""
        return []

    def finish(self, frames: int) -> None:
        """Never reached."""


class TrackedBox(NamedTuple):
    track: int
    box: CropBox


class _Track(NamedTuple):
    frame: int  # where it was last seen
    box: CropBox  # smoothed


class Tracker:
    """Follows the faces of one video, and keeps their crops calm as the preparation of training data does.

    A face belongs to the track whose last crop overlaps most with it; without any it begins a new one.
    """

    def __init__(self, *, patience: int, min_overlap: float = 0.3) -> None:
        """A track ends after `patience` frames without a face, and needs an overlap (IoU) of `min_overlap`."""
        self.patience, self.min_overlap = patience, min_overlap
        self._tracks: list[_Track] = []

    def follow(self, frame: int, boxes: list[CropBox]) -> list[TrackedBox]:
        """Tracks of a frame's faces, each at most once, in the order of tracks; new ones by size, largest first."""
        alive = [i for i, track in enumerate(self._tracks) if frame - track.frame <= self.patience]
        pairs = [(overlap(self._tracks[i].box, box), i, k) for i in alive for k, box in enumerate(boxes)]
        owner: dict[int, int] = {}  # track by box
        for share, i, k in sorted(pairs, reverse=True):
            if share >= self.min_overlap and k not in owner and i not in owner.values():
                owner[k] = i
        for k in sorted(range(len(boxes)), key=lambda k: -float(boxes[k].half)):
            if k in owner:
                last = self._tracks[owner[k]]
                smooth = follow_box(last.box, boxes[k], frames=frame - last.frame)
                self._tracks[owner[k]] = _Track(frame, smooth)
            else:
                owner[k] = len(self._tracks)
                self._tracks.append(_Track(frame, boxes[k]))
        return [TrackedBox(track, self._tracks[track].box) for track in sorted(owner.values())]


def overlap(first: CropBox, second: CropBox) -> float:
    """Intersection over union of two crops."""
    low = np.maximum(first.center - first.half, second.center - second.half)
    high = np.minimum(first.center + first.half, second.center + second.half)
    shared = np.prod(np.maximum(high - low, 0.0))
    return float(shared / ((2 * first.half) ** 2 + (2 * second.half) ** 2 - shared))
