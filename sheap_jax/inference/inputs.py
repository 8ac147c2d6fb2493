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

from sheap_jax.data.prepare.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Clip
from sheap_jax.inference.video_files import VideoFile

WEBCAM = "webcam:"


class Failure(NamedTuple):
    """An input that gave nothing, and the reason that the user is told."""

    path: str
    reason: str


class Inputs(NamedTuple):
    clips: list[Clip]  # one photograph or video each, names unique
    failures: list[Failure]


def find_inputs(arguments: Sequence[str]) -> Inputs:
    """The photographs and videos that are meant: files, folders (searched recursively), patterns such as `a/*.jpg`.

    Folders are searched for files with the suffix of an image or video; hidden ones are left out.
    """
    files: dict[Path, str] = {}  # path and its name, without suffix, below the folder that the user named
    failures = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = _files_in(path)
        elif path.exists():
            found = [(path, path.stem)]
        else:
            found = [(Path(match), Path(match).stem) for match in sorted(glob.glob(argument, recursive=True))]
        usable = [(path, name) for path, name in found if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
        files |= {path: name for path, name in usable if path not in files}
        if not usable:
            failures.append(Failure(argument, _why_nothing(path, found)))
    return Inputs(_named(files), failures)


def _files_in(folder: Path) -> list[tuple[Path, str]]:
    below = [(path, path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path, str(end.with_suffix(""))) for path, end in below if not any(p.startswith(".") for p in end.parts)]


def _why_nothing(path: Path, found: list[tuple[Path, str]]) -> str:
    if path.is_dir():
        return "the folder holds no image or video"
    if found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        return f"neither an image nor a video by its suffix (known: {suffixes})"
    return "does not exist"


def _named(files: dict[Path, str]) -> list[Clip]:
    """Clips with unique names: those that would share one keep their suffix, or get a number."""
    repeated = Counter(files.values())
    taken: set[str] = set()
    clips = []
    for path, name in files.items():
        wanted = f"{name}-{path.suffix[1:].lower()}" if repeated[name] > 1 else name
        numbered = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
        unique = next(name for name in numbered if name not in taken)
        taken.add(unique)
        clips.append(Clip(unique, unique, (path,), path.suffix.lower() in VIDEO_SUFFIXES))
    return clips


def record_webcam(argument: str, folder: Path, *, seconds: float) -> Path:
    """Record `webcam:N` into a video in `folder`, for so long or until Ctrl-C.

    Raises ValueError for a camera that is none or gives no picture.
    """
    import cv2

    number = argument.removeprefix(WEBCAM)
    capture = cv2.VideoCapture(int(number)) if number.isdecimal() else None
    if capture is None or not capture.isOpened():
        raise ValueError(f"{argument} cannot be opened: the first camera is webcam:0")
    path = folder / f"webcam{number}.mp4"
    try:
        with VideoFile(path, rate=capture.get(cv2.CAP_PROP_FPS) or 30.0) as video:
            for image in _pictures(capture, seconds):
                video.write(image)
    finally:
        capture.release()
    if not path.exists():
        raise ValueError(f"{argument} gives no picture")
    return path


def _pictures(capture, seconds: float) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    from tqdm import tqdm

    end = time.monotonic() + seconds
    with tqdm(desc="recording, Ctrl-C ends it", unit="frame") as progress:
        try:
            while time.monotonic() < end:
                decoded, image = capture.read()
                if not decoded:
                    return
                progress.update()
                yield image[..., ::-1]
        except KeyboardInterrupt:  # how the user says that it is enough
            return
