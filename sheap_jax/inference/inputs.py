"""What a user names on the command line as clips: photographs, videos, folders, patterns, a webcam."""

import glob
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.prepare.clips import DEFAULT_RATE, IMAGE_SUFFIXES, VIDEO_SUFFIXES, Clip, reading_order
from sheap_jax.inference.video_files import VideoFile

WEBCAM = "webcam:"


class Failure(NamedTuple):
    """An input that gave nothing, and the reason that the user is told."""

    path: str
    reason: str


class Inputs(NamedTuple):
    clips: list[Clip]  # names unique
    failures: list[Failure]


class _Found(NamedTuple):
    """A file, or the pictures of a folder that are frames."""

    name: str  # without suffix, below the folder that the user named
    files: tuple[Path, ...]


def find_inputs(
    arguments: Sequence[str], *, as_video: bool = False, rate: float = DEFAULT_RATE, output: Path | None = None
) -> Inputs:
    """The photographs and videos that are meant: files, folders (searched recursively), patterns such as `a/*.jpg`.

    Folders are searched for files with the suffix of an image or video, numbers in names in their order; hidden files
    are left out, and so is what lies below `output`, where results are written. With `as_video` the pictures of a
    folder are the frames of one video, `rate` of them per second.
    """
    found: dict[tuple[Path, ...], _Found] = {}
    failures = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = _files_in(path, without=output)
        elif path.exists():
            files = [_Found(path.stem, (path,))]
        else:
            matches = sorted(map(Path, glob.glob(argument, recursive=True)), key=reading_order)
            files = [_Found(match.stem, (match,)) for match in matches if match.is_file()]
        usable = [file for file in files if _suffix(file) in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
        if as_video and path.is_dir():
            usable = _frames_together(path, usable)
        for file in usable:
            found.setdefault(file.files, file)
        if not usable:
            failures.append(Failure(argument, _why_nothing(path, files, output)))
    return Inputs(_unique_clips(list(found.values()), rate), failures)


def _suffix(found: _Found) -> str:
    return found.files[0].suffix.lower()


def _files_in(folder: Path, *, without: Path | None) -> list[_Found]:
    """Files below a folder, but not those below the folder `without`, unless that one holds the folder itself."""
    paths = [path for path in sorted(folder.rglob("*"), key=reading_order) if path.is_file()]
    if without is not None and without.resolve().is_relative_to(folder.resolve()):
        paths = [path for path in paths if not path.resolve().is_relative_to(without.resolve())]
    below = [path.relative_to(folder) for path in paths]
    shown = [end for end in below if not any(part.startswith(".") for part in end.parts)]
    return [_Found(str(end.with_suffix("")), (folder / end,)) for end in shown]


def _frames_together(root: Path, found: list[_Found]) -> list[_Found]:
    """The pictures of each folder as one, under the folder's name; videos as they are."""
    folders: dict[Path, list[Path]] = {}
    for file in found:
        if _suffix(file) in IMAGE_SUFFIXES:
            folders.setdefault(file.files[0].parent, []).append(file.files[0])
    videos = [file for file in found if _suffix(file) in VIDEO_SUFFIXES]
    named = [(root.resolve().name if at == root else str(at.relative_to(root)), at) for at in folders]
    return [_Found(name, tuple(folders[at])) for name, at in named] + videos


def _why_nothing(path: Path, found: list[_Found], output: Path | None) -> str:
    if path.is_dir():
        if output is not None and output.resolve() == path.resolve():
            return "the folder is the output itself, whose files are results: choose another --output"
        return "the folder holds no image or video"
    if found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        return f"neither an image nor a video by its suffix (known: {suffixes})"
    return "does not exist"


def _unique_clips(found: list[_Found], rate: float) -> list[Clip]:
    """Clips with unique names. A name that occurs twice, or means another folder, keeps its suffix or gets a number."""
    repeated = Counter(name for name, _ in found)
    taken: set[str] = set()
    clips = []
    for name, files in found:
        suffix = files[0].suffix.lower()
        wanted = f"{name}-{suffix[1:]}" if repeated[name] > 1 or name in (".", "..") else name
        numbered = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
        unique = next(name for name in numbered if name not in taken)
        taken.add(unique)
        clips.append(Clip(unique, unique, files, suffix in VIDEO_SUFFIXES, rate=rate))
    return clips


def record_webcam(argument: str, folder: Path, *, seconds: float) -> Path:
    """Record `webcam:N` into a video in `folder`, for `seconds` or until Ctrl-C.

    Raises ValueError if there is no such camera, or it gives no picture.
    """
    import cv2

    number = argument.removeprefix(WEBCAM)
    capture = cv2.VideoCapture(int(number)) if number.isdecimal() else None
    if capture is None or not capture.isOpened():
        raise ValueError(f"{argument} cannot be opened: the first camera is webcam:0")
    path = folder / f"webcam{number}.mp4"
    try:
        with VideoFile(path) as video:
            for image, until in _pictures(capture, seconds):
                video.write(image, until=until)
    finally:
        capture.release()
    if not path.exists():
        raise ValueError(f"{argument} gives no picture")
    return path


def _pictures(capture, seconds: float) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float]]:
    """Pictures, each with the seconds from the first one to the next: cameras do not keep the rate that they state."""
    from tqdm import tqdm

    start = last = None
    with tqdm(desc="recording, Ctrl-C ends it", unit="frame") as progress:
        try:
            while True:
                decoded, image = capture.read()
                now = time.monotonic()
                start = now if start is None else start
                if last is not None:
                    yield last, now - start
                if not decoded or now - start >= seconds:
                    return
                progress.update()
                last = image[..., ::-1]
        except KeyboardInterrupt:  # how the user says that it is enough
            return
