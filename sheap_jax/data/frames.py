"""From stored records to frames in memory, one by one and in record order for evaluation."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from sheap_jax.data.codec import Record, ShardError
from sheap_jax.data.records import Split
from sheap_jax.types import Frame


def decode_frame(record: Record, *, image_size: int) -> Frame:
    """The frame of one record at `image_size` pixels, image float32 in [0, 1].

    A landmark more than one image size outside the image is a failed detection: its weight becomes 0.

    Raises:
      ShardError: the JPEG cannot be decoded, is not square, or landmarks or weights are not finite; names the record.
    """
    try:
        image = _jpeg_decoder()(record.image)
    except ValueError as error:
        raise ShardError(f"record {record.key}: the JPEG cannot be decoded ({error})") from error
    height, width = image.shape[:2]
    if height != width:
        raise ShardError(f"record {record.key}: the image has {width} x {height} pixels, crops must be square")
    if not (np.isfinite(record.landmarks).all() and np.isfinite(record.weights).all()):
        raise ShardError(f"record {record.key}: landmarks or their weights are not finite")
    landmarks = record.landmarks * np.float32(image_size / width)
    far = np.any((landmarks < -image_size) | (landmarks > 2 * image_size), axis=-1)
    weights = np.where(far, np.float32(0.0), record.weights)
    # _make, since the fields of Frame are typed as jax arrays; NumPy ones stand in until the step moves them over.
    return Frame._make((_resize(image, image_size) * np.float32(1.0 / 255.0), landmarks, weights))


def _resize(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Area average when shrinking, linear when growing."""
    import cv2

    if image.shape[0] == size:
        return image
    shrinks = image.shape[0] > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@functools.cache
def _jpeg_decoder() -> Callable[[bytes], UInt8[np.ndarray, "h w 3"]]:
    """simplejpeg if it is there (1.4 times as fast), else OpenCV; both raise ValueError on damaged data."""
    try:
        import simplejpeg
    except ImportError:
        return _decode_with_opencv
    return functools.partial(simplejpeg.decode_jpeg, colorspace="RGB")


def _decode_with_opencv(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
    records: Sequence[int] | np.ndarray | None = None,
) -> Iterator[FrameBatch]:
    """All frames of a split once, or those of `records` in that order, in batches of one shape.

    Raises:
      ShardError: at the first record that cannot be used: an evaluation must not skip silently.
    """
    opened = Split(directory, split)
    chosen = np.asarray(range(len(opened)) if records is None else records, np.int32)
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
