"""Finding the clips below the inputs."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sheap_jax.data.prepare.layouts import Layout, Place

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
    | {".3gp", ".flv", ".gif", ".m2ts", ".mts", ".ogv", ".ts", ".wmv"}
)
DEFAULT_RATE = 25.0  # frames per second where nothing states a time: images of a folder, raw streams
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class PrepareError(Exception):
    """One clip cannot be used; the message is the reason that the report gives."""


class Clip(NamedTuple):
    """One video file, or images as its frames, in the order of their names and numbers."""

    identity: str
    name: str  # unique within the identity
    files: tuple[Path, ...]
    is_video: bool
    source: str = ""  # the video, image or folder of images, as a path below the input of `find_clips`
    rate: float = DEFAULT_RATE  # frames per second of images; the frames of a video have times of their own

    @property
    def is_photograph(self) -> bool:
        """A picture alone, which shows no motion."""
        return not self.is_video and len(self.files) == 1

    @property
    def path(self) -> Path:
        """The video, or the folder of the images, for messages; the image itself where it is alone."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent


class Refused(NamedTuple):
    """A video or image that is no clip of its own, and why."""

    path: Path
    reason: str


class FoundClips(NamedTuple):
    """The clips, sorted by identity and name, each once; and the files that are no clip."""

    clips: list[Clip]
    refused: list[Refused]


def reading_order(path: Path) -> list[tuple[str, int, str]]:
    """Key that sorts paths as people count, in every folder of them: 2.jpg before 10.jpg."""
    pieces = re.findall(r"([^0-9]*)([0-9]*)", path.as_posix())
    return [(text, int(digits or -1), digits) for text, digits in pieces]


def find_clips(inputs: Sequence[Path], layout: Layout) -> FoundClips:
    """All clips in files and folders (searched recursively).

    Raises:
      FileNotFoundError: an input does not exist.
      ValueError: no video or image that fits the layout.
    """
    clips: list[Clip] = []
    refused: list[Refused] = []
    frames: dict[tuple[Path, Place], list[Path]] = {}
    for path, below in _files(inputs):
        is_video = path.suffix.lower() in VIDEO_SUFFIXES
        place = layout.place(below, is_video=is_video, root=path.resolve().parent.name)
        if place is None:
            refused.append(Refused(path, "its path does not fit the layout"))
        elif place.is_frame:
            frames.setdefault((path.parent, place), []).append(path)
        else:
            clips.append(Clip(place.identity, place.clip, (path,), is_video, str(below)))
    for (folder, place), files in frames.items():
        clips.append(Clip(place.identity, place.clip, tuple(sorted(files, key=reading_order)), False, folder.name))
    clips.sort(key=lambda clip: (clip.identity, clip.name))
    if not clips:
        example = f", {refused[0].path} for instance" if refused else ""
        raise ValueError(f"no video or image in {', '.join(map(str, inputs))} fits the layout {layout.name!r}{example}")
    unique, repeated = _once_each(clips)
    return FoundClips(unique, refused + repeated)


def _once_each(clips: Sequence[Clip]) -> tuple[list[Clip], list[Refused]]:
    """The first clip of each name, and those that repeat a name. A file that was named twice is one clip."""
    unique: dict[tuple[str, str], Clip] = {}
    repeated = []
    for clip in clips:
        first = unique.setdefault((clip.identity, clip.name), clip)
        if first.files != clip.files:
            reason = f"gives the clip {clip.identity}/{clip.name}, which {first.path} gives already: rename one"
            repeated.append(Refused(clip.path, reason))
    return list(unique.values()), repeated


def _files(inputs: Sequence[Path]) -> Iterator[tuple[Path, PurePosixPath]]:
    """Videos and images with their paths below the input."""
    for root in inputs:
        if root.is_dir():
            for path in sorted(root.rglob("*"), key=reading_order):
                if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
                    yield path, _readable(path.relative_to(root))
        elif not root.exists():
            raise FileNotFoundError(f"input {root} does not exist")
        elif root.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            yield root, _readable(Path(root.name))
        else:
            raise ValueError(f"input {root} is neither a folder nor a video nor an image by its suffix")


def _readable(path: Path) -> PurePosixPath:
    """A path for names in records: bytes that are no UTF-8, which file systems allow, are written as escapes."""
    return PurePosixPath(os.fsencode(path).decode("utf-8", errors="backslashreplace"))
