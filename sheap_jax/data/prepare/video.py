"""Reading the frames of a clip in order, with the time of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.data.photographs import read_photograph
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.decoding import VideoDecoder


class ClipFrame(NamedTuple):
    """One frame of a clip."""

    number: int
    seconds: float  # from the clip's first frame
    image: UInt8[np.ndarray, "h w 3"]  # RGB


class SameSize:
    """Checks that the pictures of one video have one size: crops are followed from one to the next."""

    def __init__(self) -> None:
        self._first: tuple[Path, int, int] | None = None

    def check(self, path: Path, height: int, width: int) -> None:
        """PrepareError if a picture has another size than the first one that was checked."""
        first, rows, columns = self._first = self._first or (path, height, width)
        if (height, width) != (rows, columns):
            raise PrepareError(
                f"{path} has {width} x {height} pixels, {first.name} has {columns} x {rows}: the frames of a video are "
                "of one size, other pictures are not frames"
            )


class FrameReader:
    """Iterates over every `stride`-th frame of a clip, once, in order.

    The stride grows until the clip gives no more than `max_frames`. The times of a video are its frames' own stamps
    (decoding.py); images follow each other at the clip's rate.

    Iterating raises PrepareError for a video that cannot be decoded as a whole, an image that cannot be read, or one of
    another size than the first.
    """

    def __init__(self, clip: Clip, *, stride: int = 1, max_frames: int = 0) -> None:
        self.clip, self.stride, self.max_frames = clip, stride, max_frames
        self._times = np.zeros(1)

    @property
    def times(self) -> Float[np.ndarray, "frames+1"]:
        """Seconds at which frames start and the last one ends, known at the end."""
        return self._times

    @property
    def total(self) -> int:
        """Frames of the clip, known at the end."""
        return len(self.times) - 1

    @property
    def rate(self) -> float:
        """Frames per second on average, known at the end; 0 for images, which have no time of their own."""
        return self.total / float(self.times[-1]) if self.clip.is_video and self.total else 0.0

    def _thin_out(self, frames: int) -> None:
        self.stride = max(self.stride, -(-frames // self.max_frames))

    def __iter__(self) -> Iterator[ClipFrame]:
        return self._video() if self.clip.is_video else self._images()

    def _images(self) -> Iterator[ClipFrame]:
        self._times = np.arange(len(self.clip.files) + 1) / self.clip.rate
        if self.max_frames:
            self._thin_out(self.total)
        sizes = SameSize()
        for number in range(0, self.total, self.stride):
            try:
                image = read_photograph(self.clip.files[number])
            except ValueError as error:
                raise PrepareError(str(error).removeprefix(f"{self.clip.path} ")) from error
            sizes.check(self.clip.files[number], image.shape[0], image.shape[1])
            yield ClipFrame(number, float(self.times[number]), image)

    def _video(self) -> Iterator[ClipFrame]:
        """Sequential: seeking is not exact in many containers. Frames between strides are not converted to images."""
        decoder = VideoDecoder(self.clip.files[0])
        if self.max_frames:
            self._thin_out(decoder.count())
        for number, frame in enumerate(decoder):
            if number % self.stride == 0:
                yield ClipFrame(number, frame.seconds, frame.image())
        self._times = np.array([*decoder.starts, decoder.end])
