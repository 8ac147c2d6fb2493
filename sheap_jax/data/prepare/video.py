"""Reading the frames of a clip in order."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.photographs import read_photograph
from sheap_jax.data.prepare.clips import Clip, PrepareError


class FrameReader:
    """Iterates over (frame number, RGB image) of every `stride`-th frame of a clip, once, in order.

    The stride grows until the clip gives no more than `max_frames` by the length that it states.

    Iterating raises PrepareError when nothing can be decoded, or a video ends well before the length that it states.
    """

    def __init__(self, clip: Clip, *, stride: int = 1, max_frames: int = 0) -> None:
        self.clip, self.stride, self.max_frames = clip, stride, max_frames
        self.total = 0  # frames of the clip, known at the end
        self.rate = 0.0  # frames per second of a video, known at its first frame; 0 for images

    def _thin_out(self, frames: int) -> None:
        if self.max_frames:
            self.stride = max(self.stride, -(-frames // self.max_frames))

    def __iter__(self) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        return self._video() if self.clip.is_video else self._images()

    def _images(self) -> Iterator[tuple[int, np.ndarray]]:
        self.total = len(self.clip.files)
        self._thin_out(self.total)
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
            self._thin_out(stated)
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
