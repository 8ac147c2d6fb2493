"""A video file as frames with the time of each: upright, of square pixels and one size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.photographs import over_black
from sheap_jax.data.prepare.clips import DEFAULT_RATE, PrepareError
from sheap_jax.data.prepare.truncation import ends_in_zeros, missing_bytes
from sheap_jax.files.regular import why_not_regular

_STATES_LENGTH = ("mov", "matroska", "avi")  # formats whose header states a length; elsewhere it is a guess
_RESTART = 1.0  # seconds that a stamp must lie behind the one before to mean that the clock was set back
_MOST_PIXELS = 2**26  # of a frame: twice those of 8K
_MAX_ASPECT = 4.0  # of a pixel; wide-screen formats go up to 2.2
_BAD_SHARE = 0.05  # packets that may fail to decode
_SAME_SHAPE = 0.02  # relative change of the aspect ratio up to which it is the same picture in another size


class VideoFrame(NamedTuple):
    """One decoded frame; `image` converts it, which costs more than decoding it."""

    seconds: float  # from the first frame
    image: Callable[[], UInt8[np.ndarray, "h w 3"]]


class VideoDecoder:
    """The frames of one video file in the order they are shown, decoded once from front to end.

    Times are the frames' own stamps, counted from the first frame: stated rates are often wrong, and many videos have
    none. Stamps that do not rise are mended (`Clock`).

    Attributes, complete once the iteration is:
      starts: seconds at which each frame appears.
      end: seconds at which the last one ends, as the file states; otherwise it lasts as long as the mean frame.

    Iterating raises PrepareError for a file that is no video, has no picture, is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts: list[float] = []
        self.end = 0.0

    def count(self) -> int:
        """The number of frames, or a few more. Counts packets, since headers are often wrong."""
        with _opened(self.path) as (container, stream):
            return sum(packet.size > 0 for packet in _packets(container, stream))

    def __iter__(self) -> Iterator[VideoFrame]:
        missing = missing_bytes(self.path) if self.path.is_file() else 0
        if missing:
            raise PrepareError(f"is truncated, {missing} bytes are missing at its end: copy it again")
        with _opened(self.path) as (container, stream):
            clock, shape, origin = Clock(_step(stream)), _Shape(stream), None
            for frame in self._frames(container, stream):
                stamp = None if frame.pts is None else float(frame.pts * (frame.time_base or stream.time_base))
                origin = stamp if origin is None else origin
                self.starts.append(clock.advance(stamp))
                yield VideoFrame(self.starts[-1], lambda frame=frame: shape.image(frame, len(self.starts) - 1))
            if not self.starts:
                raise PrepareError("holds no frame that can be decoded")
            stated = _stated_end(container, stream) - (origin or 0.0)
            if stated > 1.05 * self.starts[-1] + 2 * clock.step and ends_in_zeros(self.path):
                raise PrepareError(f"is truncated: {self.starts[-1]:.1f} of {stated:.1f} s, then zeros: copy it again")
            self.end = self._end(stated, clock.step)

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Decoded frames. Single packets that cannot be decoded are passed over, as players do."""
        from av.error import FFmpegError

        packets = bad = 0
        cut = False
        for packet in _packets(container, stream):
            packets, cut = packets + 1, packet.is_corrupt or (cut and not packet.size)
            try:
                yield from packet.decode()
            except FFmpegError:
                bad += 1
        if cut:
            raise PrepareError(f"is truncated: its last frame, after {len(self.starts)}, is cut off")
        if bad > max(1, _BAD_SHARE * packets):
            raise PrepareError(f"is damaged: {bad} of {packets} packets cannot be decoded")

    def _end(self, stated: float, step: float) -> float:
        last = self.starts[-1]
        if stated > last:
            return stated
        return last + (last / (len(self.starts) - 1) if last else step)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    from av.error import FFmpegError

    try:
        yield from container.demux(stream)
    except FFmpegError as error:
        raise PrepareError(f"cannot be read to its end ({error.strerror}): damaged or truncated") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream."""
    import av
    from av.error import FFmpegError
    from av.stream import Disposition

    reason = why_not_regular(path)
    if reason is not None:
        raise PrepareError(reason)
    if path.is_file() and not path.stat().st_size:
        raise PrepareError("is empty: 0 bytes")
    try:
        # With the protocol before it, a path may hold colons and percent signs.
        container = av.open(f"file:{path}", **_text_options(av.__version__))
    except FileNotFoundError:
        raise PrepareError("is missing") from None
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrepareError(f"cannot be opened as a video: damaged or of an unknown format ({reason})") from None
    with container:
        # Cover pictures are video streams to the library.
        covers = [s.index for s in container.streams.video if s.disposition & Disposition.attached_pic]
        streams = [s for s in container.streams.video if s.index not in covers]
        if not streams:
            raise PrepareError("holds no video" + (", only sound" if container.streams.audio else ""))
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise PrepareError("is a picture, not a video: give it the suffix of one")
        if stream.codec_context is None:
            raise PrepareError("is of a codec that cannot be decoded here: convert it to H.264")
        picture: Any = stream.codec_context
        if picture.width * picture.height > _MOST_PIXELS:
            size = f"{picture.width} x {picture.height} pixels"
            raise PrepareError(f"states {size}, more than {_MOST_PIXELS // 10**6} million: scale it down")
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}  # sizes may change later
        stream.codec_context.thread_type = "AUTO"
        yield container, stream


def _text_options(version: str) -> dict[str, Any]:
    """Titles and comments may be in any encoding. PyAV takes them as they are from 19 on, where the option is gone."""
    return {"metadata_errors": "replace"} if int(version.split(".")[0]) < 19 else {}


def _stated_end(container: Any, stream: Any) -> float:
    """The stamp at which the file says that its pictures end, in seconds; 0 if it does not say."""
    if not container.format.name.startswith(_STATES_LENGTH):
        return 0.0
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    # The length of the whole file is that of its pictures only if it holds nothing else.
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else 0.0


def _step(stream: Any) -> float:
    """Seconds from frame to frame by what the file states or its first packets say; often wrong."""
    rate = stream.average_rate or stream.guessed_rate
    return 1.0 / float(rate or DEFAULT_RATE)


class Clock:
    """From stamps to seconds since the first frame, each later than the one before."""

    def __init__(self, step: float) -> None:
        """`step` is for frames without a stamp."""
        self.step = step
        self._origin: float | None = None
        self._last = -self.step

    def advance(self, stamp: float | None) -> float:
        """The time of the next frame.

        A frame without a stamp follows after the stated step. So does a frame whose stamp lies far behind the last one:
        the recorder's clock was set back, and all later stamps are shifted alike. Other stamps that do not rise are put
        half a step after the last one: equal ones, and those of AVI, which has none for frames stored out of order.
        """
        expected = self._last + self.step
        if stamp is None:
            seconds = expected
        else:
            if self._origin is None or stamp - self._origin < self._last - _RESTART:
                self._origin = stamp - expected
            seconds = stamp - self._origin
            if seconds <= self._last:
                seconds = self._last + self.step / 2
        self._last = seconds
        return seconds


class _Shape:
    """From decoded frames to pictures as they are meant to be shown."""

    def __init__(self, stream: Any) -> None:
        aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
            raise PrepareError(f"states pixels {aspect:g} times as wide as high: convert it to square ones")
        self._aspect = aspect
        self._size: tuple[int, int] | None = None  # width and height of the first picture

    def image(self, frame: Any, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB with square pixels, turned as the file says, of the first frame's size; transparent pixels are black."""
        import cv2

        image = _rgb(frame)
        if self._aspect != 1.0:  # the side along which pixels are longer is the one that grows
            size = np.array(image.shape[1::-1]) * (max(self._aspect, 1.0), max(1 / self._aspect, 1.0))
            image = cv2.resize(image, tuple(np.round(size).astype(int).tolist()), interpolation=cv2.INTER_LINEAR)
        image = _turn(image, _display_matrix(frame))
        height, width = image.shape[:2]
        self._size = self._size or (width, height)
        if self._size != (width, height):
            # A recorded call changes its size with the connection; its picture stays the same.
            change = (width / height) / (self._size[0] / self._size[1])
            if abs(change - 1.0) > _SAME_SHAPE:
                old, new = f"{self._size[0]} x {self._size[1]}", f"{width} x {height}"
                raise PrepareError(f"changes from {old} to {new} pixels at frame {number}: cut it there")
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image)


def _rgb(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    if any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8":
        return over_black(frame.to_ndarray(format="rgba"))
    return frame.to_ndarray(format="rgb24")


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d: the pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift. Phones turn videos by it."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
    return a, b, c, d


def _turn(image: UInt8[np.ndarray, "h w 3"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The nearest quarter turn or reflection."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
