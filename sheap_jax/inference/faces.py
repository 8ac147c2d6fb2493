"""Where the faces are in a picture, and which face of one frame is which of the next."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.cropping import CropBox, Framing, crop_detection, follow_box, picture_size, upright_box
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.face_files import Row, entry_of, path_key, read_table
from sheap_jax.data.prepare.landmarks import LandmarkSource
from sheap_jax.data.prepare.quality import unusable

BOX_SIDES = ("left", "top", "right", "bottom")
_MIN_OVERLAP = 0.3  # intersection over union of a face's crop and its track's last one
_LARGEST_BOX = 10  # times the picture: a face that fills it has a box of about its size


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

    def __init__(self, source: LandmarkSource, *, framing: Framing = "pixels") -> None:
        self._source = source
        self._framing: Framing = framing
        self._unusable: Counter[str | None] = Counter()  # faces of the clip by reason, None for good ones

    def start(self, clip: Clip) -> None:
        self._source.start(clip)
        self._unusable.clear()

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        faces = [(points, unusable(points, image)) for points in self._source.detect(number, image)]
        self._unusable.update(reason for _, reason in faces)
        picture = picture_size(image, self._framing)
        return [upright_box(points, picture=picture) for points, reason in faces if reason is None]

    def finish(self, frames: int) -> None:
        self._source.finish(frames)
        if self._unusable and None not in self._unusable:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in self._unusable.most_common())
            raise PrepareError(f"no usable face: {reasons}")


class _BoxRow(NamedTuple):
    """A box, and the line of the file that states it."""

    line: int
    sides: Float[np.ndarray, "4"]  # left, top, right, bottom in pixels


class BoxFaces:
    """Faces from a CSV file with the columns file, left, top, right, bottom in pixels, and perhaps frame.

    A row is a face. Files are recognised by as much of their path as is stated. The rows of a video without a frame
    hold for all of its frames.
    """

    def __init__(self, path: Path, *, framing: Framing = "pixels") -> None:
        """ValueError if a column is missing or a number is none; names the line."""
        self.path = path
        self._framing: Framing = framing
        self._entries: dict[tuple[str, ...], dict[int | None, list[_BoxRow]]] = {}
        for row in read_table(path, columns=("file", *BOX_SIDES)):
            try:
                self._add(row)
            except ValueError as error:
                raise ValueError(f"{path}, line {row.line}: {error}") from error

    def _add(self, row: Row) -> None:
        if not row.cells["file"]:
            raise ValueError("no file is named")
        sides = np.array([row.number(side) for side in BOX_SIDES])
        crop_detection(sides)  # raises for an empty box
        if np.max(sides[2:] - sides[:2]) < 2.0:
            raise ValueError(f"the box {sides.tolist()} is smaller than 2 pixels: sides are pixels, not shares")
        frame = None
        if row.cells.get("frame"):
            number = row.number("frame")
            if not number.is_integer() or number < 0:
                raise ValueError(f"frame is {row.cells['frame']!r}, expected a whole number from 0")
            frame = int(number)
        frames = self._entries.setdefault(path_key(row.cells["file"]), defaultdict(list))
        frames[frame].append(_BoxRow(row.line, sides))

    def start(self, clip: Clip) -> None:
        self._of_files = [entry_of(file, self._entries) or {} for file in clip.files]
        self._is_video = clip.is_video
        if not any(self._of_files):
            raise PrepareError(f"no box for {clip.path.name} in {self.path.name}")

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        boxes = self._of_files[0] if self._is_video else self._of_files[number]
        at = number if self._is_video else 0
        rows = [*boxes.get(at, []), *boxes.get(None, [])]
        for row in rows:
            fault = _box_fault(row.sides, image.shape[0], image.shape[1])
            if fault:
                raise PrepareError(f"{self.path.name}, line {row.line}: {fault}")
        picture = picture_size(image, self._framing)
        return [crop_detection(row.sides, picture=picture) for row in rows]

    def finish(self, frames: int) -> None:
        last = max((frame for boxes in self._of_files for frame in boxes if frame is not None), default=0)
        most = frames if self._is_video else 1
        if last >= most:
            raise PrepareError(f"has {most} frames, but {self.path.name} has a box for frame {last} (from 0)")


def _box_fault(sides: Float[np.ndarray, "4"], height: int, width: int) -> str | None:
    """Why a box cannot be that of a face in a picture of this size, None if it can."""
    center, picture = (sides[:2] + sides[2:]) / 2, f"the picture of {width} x {height} pixels"
    if np.any(center < 0) or np.any(center > (width, height)):
        return f"the middle of the box {sides.tolist()} lies outside {picture}"
    if np.max(sides[2:] - sides[:2]) > _LARGEST_BOX * max(width, height):
        return f"the box {sides.tolist()} is more than {_LARGEST_BOX} times as large as {picture}"
    return None


class WholePicture:
    """Pictures that are face crops already, framed as in docs/prediction.md.

    The official framing stretches a rectangle to a square, as the release's demo does; ours pads it with black.
    """

    def __init__(self, *, framing: Framing = "pixels") -> None:
        self._framing = framing

    def start(self, clip: Clip) -> None:
        """Nothing to do."""

    def find(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[CropBox]:
        size = np.array(image.shape[1::-1], np.float64)
        stretch = size / size.max() if self._framing == "official" else np.ones(2)
        return [CropBox(size / 2, size.max() / 2, stretch=stretch)]

    def finish(self, frames: int) -> None:
        """Nothing to do."""


class UnstatedFaces:
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
    seconds: float
    box: CropBox  # smoothed


class Tracker:
    """Follows the faces of one video, and keeps their crops calm as the preparation of training data does.

    A face belongs to the track whose last crop overlaps most with it; without any it begins a new one.
    """

    def __init__(self, *, patience: float) -> None:
        """A track ends after `patience` seconds without a face."""
        self.patience = patience
        self._tracks: list[_Track] = []

    def follow(self, frame: int, seconds: float, boxes: list[CropBox]) -> list[TrackedBox]:
        """Tracks of a frame's faces, each at most once, in the order of tracks; new ones by size, largest first."""
        alive = [i for i, track in enumerate(self._tracks) if self._is_alive(track, frame, seconds)]
        pairs = [(overlap(self._tracks[i].box, box), i, k) for i in alive for k, box in enumerate(boxes)]
        owner: dict[int, int] = {}  # track by box
        for share, i, k in sorted(pairs, reverse=True):
            if share >= _MIN_OVERLAP and k not in owner and i not in owner.values():
                owner[k] = i
        for k in sorted(range(len(boxes)), key=lambda k: -float(boxes[k].half)):
            if k in owner:
                last = self._tracks[owner[k]]
                smooth = follow_box(last.box, boxes[k], frames=frame - last.frame)
                self._tracks[owner[k]] = _Track(frame, seconds, smooth)
            else:
                owner[k] = len(self._tracks)
                self._tracks.append(_Track(frame, seconds, boxes[k]))
        return [TrackedBox(track, self._tracks[track].box) for track in sorted(owner.values())]

    def _is_alive(self, track: _Track, frame: int, seconds: float) -> bool:
        """A track outlives any pause between neighbouring frames: no frame in between could have shown the face."""
        return frame - track.frame <= 1 or seconds - track.seconds <= self.patience


def overlap(first: CropBox, second: CropBox) -> float:
    """Intersection over union of two crops."""
    low = np.maximum(first.center - first.half_sides, second.center - second.half_sides)
    high = np.minimum(first.center + first.half_sides, second.center + second.half_sides)
    shared = np.prod(np.maximum(high - low, 0.0))
    return float(shared / (np.prod(2 * first.half_sides) + np.prod(2 * second.half_sides) - shared))
