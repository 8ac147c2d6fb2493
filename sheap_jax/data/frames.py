"""From stored records to frames in memory: one record, or for evaluation a whole split in record order."""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from sheap_jax.data.codec import Record, ShardError
from sheap_jax.data.records import Split
from sheap_jax.files.jpeg_size import jpeg_size
from sheap_jax.types import Frame, RawFrame

_MOST_SIDE = 4096  # pixels of a crop


def decode_image(record: Record, out: UInt8[np.ndarray, "s s 3"]) -> int:
    """Write the image of a record to `out`, resized if need be. Returns the size that it had.

    Raises:
      ShardError: the JPEG cannot be decoded or is not square; names the record.
    """
    try:
        width, height = jpeg_size(record.image)
        if height != width:
            raise ShardError(f"record {record.key}: the image has {width} x {height} pixels, crops must be square")
        if width > _MOST_SIDE:
            raise ShardError(f"record {record.key}: the image has {width} pixels a side, at most {_MOST_SIDE} are read")
        image = _jpeg_decoder()(record.image, out)
    except ValueError as error:
        raise ShardError(f"record {record.key}: the JPEG cannot be decoded ({error})") from error
    if image.shape[:2] != (height, width):
        raise ShardError(f"record {record.key}: the JPEG has another size than its header states")
    if width != len(out):
        _resize(image, out)
    return width


def landmarks_finite(
    landmarks: Float32[np.ndarray, "*b l 2"], weights: Float32[np.ndarray, "*b l"]
) -> Bool[np.ndarray, "*b"]:
    """Which of the frames have finite landmarks and weights."""
    return np.asarray(np.isfinite(landmarks).all(axis=(-2, -1)) & np.isfinite(weights).all(axis=-1))


def drop_far_landmarks(frame: RawFrame) -> RawFrame:
    """Weight 0 for landmarks more than one image size outside the image: failed detections."""
    size = frame.image.shape[-2]
    near = np.all((frame.landmarks >= -size) & (frame.landmarks <= 2 * size), axis=-1)
    return frame._replace(landmark_weight=frame.landmark_weight * near)


def decode_frame(record: Record, *, image_size: int) -> Frame:
    """The frame of one record at `image_size` pixels, image float32 in [0, 1], far landmarks without weight.

    Raises:
      ShardError: the image cannot be used, or landmarks or weights are not finite; names the record.
    """
    image = np.empty((image_size, image_size, 3), np.uint8)
    scale = np.float32(image_size / decode_image(record, image))
    if not landmarks_finite(record.landmarks, record.weights):
        raise ShardError(f"record {record.key}: landmarks or their weights are not finite")
    raw = drop_far_landmarks(RawFrame(image, record.landmarks * scale, record.weights))
    # _make, since the fields of Frame are typed as jax arrays; NumPy ones stand in.
    return Frame._make((image * np.float32(1.0 / 255.0), raw.landmarks, raw.landmark_weight))


def _resize(image: UInt8[np.ndarray, "h h 3"], out: UInt8[np.ndarray, "s s 3"]) -> None:
    """Area average when shrinking, linear when growing."""
    import cv2

    shrinks = len(image) > len(out)
    cv2.resize(image, out.shape[:2], dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class _Decode(Protocol):
    """A decoder of JPEG files. It writes to `out` if the size fits, and returns a new array otherwise."""

    def __call__(self, data: bytes, out: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "h w 3"]: ...


@functools.cache
def _jpeg_decoder() -> _Decode:
    """simplejpeg if it is there (1.4 times as fast), else OpenCV; both raise ValueError on damaged data."""
    try:
        import simplejpeg
    except ImportError:
        return _decode_with_opencv

    def decode(data: bytes, out: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "h w 3"]:
        try:
            image = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
        except ValueError:  # larger than `out`; or damaged, and then it fails once more
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        return image if image.shape == out.shape else image.copy()

    return decode


def _decode_with_opencv(data: bytes, out: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out if image.shape == out.shape else None)


class FrameBatch(NamedTuple):
    """Frames in record order. The last batch is padded with copies of its last frame, where `valid` is False."""

    frame: Frame  # numpy arrays
    record: Int32[np.ndarray, "b"]  # index in the split
    valid: Bool[np.ndarray, "b"]


def frame_batches(
    directory: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    image_size: int,
) -> Iterator[FrameBatch]:
    """All frames of a split once, in batches of one shape.

    Raises:
      ShardError: at the first record that cannot be used: an evaluation must not skip silently.
    """
    opened = Split(directory, split)
    chosen = np.arange(len(opened), dtype=np.int32)
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        frames = [decode_frame(opened[i], image_size=image_size) for i in part]
        missing = batch_size - len(part)
        frames += frames[-1:] * missing
        padded = np.concatenate([part, np.repeat(part[-1:], missing)])
        yield FrameBatch(stack_frames(frames), padded, np.arange(batch_size) < len(part))


def stack_frames(frames: Sequence[Frame]) -> Frame:
    """One batched frame of several."""
    return Frame._make(np.stack([np.asarray(value) for value in values]) for values in zip(*frames, strict=True))
