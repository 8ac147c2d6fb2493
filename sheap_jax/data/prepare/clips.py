"""Finding clips among the inputs and reading their frames in order."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.photographs import read_photograph

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
IDENTITY_RULES = ("video", "folder", "image")


class PrepareError(Exception):
    """One clip cannot be used; the message is the reason that the report gives."""


class Clip(NamedTuple):
    """One video file, or the images of one folder as its frames, in the order of their names."""

    identity: str
    name: str  # unique within the identity
    files: tuple[Path, ...]
    is_video: bool

    @property
    def path(self) -> Path:
        """The video, or the folder of the images, for messages; the image itself where it is alone."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent


def find_clips(inputs: Sequence[Path], *, identity_from: str = "video") -> list[Clip]:
    """All clips in files and folders (searched recursively), sorted by identity and name.

    Args:
      identity_from: who is in a clip. "video": every video and every folder of images is a person of its own.
        "folder": the first folder below the input is the person (VoxCeleb2's `mp4/idNNNNN/...`, MEAD). "image":
        every photograph is a person of its own.

    Raises:
      FileNotFoundError: an input does not exist.
      ValueError: no video or image among the inputs, or two clips of an identity with the same name.
    """
    if identity_from not in IDENTITY_RULES:
        raise ValueError(f"identity_from {identity_from!r}: choose one of {', '.join(IDENTITY_RULES)}")
    clips: list[Clip] = []
    loose: dict[Path, list[Path]] = {}  # images given one by one, by folder
    for path in inputs:
        if path.is_dir():
            clips += _clips_in_folder(path, identity_from)
        elif not path.exists():
            raise FileNotFoundError(f"input {path} does not exist")
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            clips.append(_clip((path,), path.parent, identity_from))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            loose.setdefault(path.parent, []).append(path)
        else:
            raise ValueError(f"input {path} is neither a folder nor a video nor an image by its suffix")
    for folder, images in loose.items():
        clips += _image_clips(images, folder, identity_from)
    clips.sort(key=lambda clip: (clip.identity, clip.name))
    for first, second in itertools.pairwise(clips):
        if first[:2] == second[:2]:
            raise ValueError(f"{first.path} and {second.path} both give clip {first.identity}/{first.name}: rename one")
    if not clips:
        raise ValueError(f"no video or image in {', '.join(map(str, inputs))}")
    return clips


def _clips_in_folder(root: Path, identity_from: str) -> list[Clip]:
    clips, images = [], {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            clips.append(_clip((path,), root, identity_from))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(path.parent, []).append(path)
    for files in images.values():
        clips += _image_clips(files, root, identity_from)
    return clips


def _image_clips(files: list[Path], root: Path, identity_from: str) -> list[Clip]:
    """The images of one folder, in the order of their names."""
    files = sorted(files)
    if identity_from == "image":
        return [_clip((file,), root, identity_from) for file in files]
    return [_clip(tuple(files), root, identity_from)]


def _clip(files: tuple[Path, ...], root: Path, identity_from: str) -> Clip:
    """Name a clip by its place below `root`."""
    is_video = files[0].suffix.lower() in VIDEO_SUFFIXES
    is_one_file = is_video or identity_from == "image"
    place = files[0].with_suffix("") if is_one_file else files[0].parent
    parts = place.relative_to(root).parts
    name = "-".join(parts) or root.resolve().name
    if identity_from != "folder":
        return Clip(name, name, files, is_video)
    folders = parts[:-1] if is_one_file else parts
    identity = folders[0] if folders else root.resolve().name
    return Clip(identity, "-".join(parts[1:]) or name, files, is_video)


class FrameReader:
    """Iterates over (frame number, RGB image) of every `stride`-th frame of a clip, once, in order.

    Iterating raises PrepareError when nothing can be decoded, or a video ends well before the length that it states.
    """

    def __init__(self, clip: Clip, *, stride: int = 1) -> None:
        self.clip, self.stride = clip, stride
        self.total = 0  # frames of the clip, known at the end
        self.rate = 0.0  # frames per second of a video, known at its first frame

    def __iter__(self) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        return self._video() if self.clip.is_video else self._images()

    def _images(self) -> Iterator[tuple[int, np.ndarray]]:
        self.total = len(self.clip.files)
        for number in range(0, self.total, self.stride):
            try:
                yield number, read_photograph(self.clip.files[number])
            except ValueError as error:
                raise PrepareError(str(error)) from error

    def _video(self) -> Iterator[tuple[int, np.ndarray]]:
        """Sequential: seeking is not exact in many containers. Frames between strides are not converted to images."""
        import cv2

        capture = cv2.VideoCapture(str(self.clip.files[0]))
        try:
            if not capture.isOpened():
                raise PrepareError("cannot be opened as a video: damaged, truncated or of an unknown codec")
            stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            self.rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
            while capture.grab():
                if self.total % self.stride == 0:
                    decoded, image = capture.retrieve()
                    if not decoded:
                        break
                    yield self.total, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                self.total += 1
        finally:
            capture.release()
        if self.total == 0:
            raise PrepareError("holds no frame that can be decoded")
        if self.total < 0.95 * stated - 2:  # containers miscount by a few frames; a damaged file lacks many
            raise PrepareError(f"ends after {self.total} of {stated} frames: truncated or damaged")
