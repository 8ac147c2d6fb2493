"""One clip to records: landmarks, crop, JPEG. What cannot be used is counted by reason."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.data.codec import Record
from sheap_jax.data.cropping import CropBox, crop_box, crop_image, follow_box, to_crop
from sheap_jax.data.prepare.clips import Clip, FrameReader, PrepareError
from sheap_jax.data.prepare.landmarks import LandmarkSource, landmark_weights

JPEG_QUALITY = 95
MIN_VISIBLE = 0.5  # share of the landmarks that must lie inside the image

NO_FACE = "no face found"
OUTSIDE = "most landmarks outside the image"
DEGENERATE = "landmarks not finite or all on one point"


class ConvertedClip(NamedTuple):
    """Records of one clip, and how many of its frames were left out for which reason."""

    records: list[Record]
    frames: int  # looked at, with or without a face
    skipped: Counter[str]


def convert_clip(clip: Clip, source: LandmarkSource, *, image_size: int = 224, stride: int = 1) -> ConvertedClip:
    """Crop every `stride`-th frame of a clip around its face.

    Raises:
      PrepareError: the clip cannot be decoded, or no frame of it can be used; the message says why.
    """
    source.start(clip)
    reader = FrameReader(clip, stride=stride)
    records: list[Record] = []
    skipped: Counter[str] = Counter()
    previous: tuple[int, CropBox] | None = None  # number and smoothed box of the last frame with a face
    frames = 0
    for number, image in reader:
        frames += 1
        faces = source.detect(number, image)
        if not len(faces):
            skipped[NO_FACE] += 1
            continue
        landmarks = max(faces, key=lambda points: np.ptp(points, axis=0).max())
        reason = unusable(landmarks, image)
        if reason:
            skipped[reason] += 1
            continue
        box = crop_box(landmarks)
        if previous is not None:
            box = follow_box(previous[1], box, frames=number - previous[0])
        previous = (number, box)
        records.append(_record(clip, number, image, landmarks, box, image_size))
    source.finish(reader.total)
    if not records:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in skipped.most_common())
        raise PrepareError(f"no usable frame among {frames}: {reasons}")
    return ConvertedClip(records, frames, skipped)


def unusable(landmarks: Float[np.ndarray, "68 2"], image: UInt8[np.ndarray, "h w 3"]) -> str | None:
    """Why a face cannot be used, None if it can."""
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() <= 1.0:
        return DEGENERATE
    height, width = image.shape[:2]
    inside = ((landmarks >= 0) & (landmarks <= (width, height))).all(axis=1)
    return OUTSIDE if inside.mean() < MIN_VISIBLE else None


def _record(
    clip: Clip,
    number: int,
    image: UInt8[np.ndarray, "h w 3"],
    landmarks: Float[np.ndarray, "68 2"],
    box: CropBox,
    size: int,
) -> Record:
    import simplejpeg

    points = to_crop(landmarks, box, size)
    weights = landmark_weights(landmarks, height=image.shape[0], width=image.shape[1])
    weights = weights * ((points >= 0) & (points <= size)).all(axis=1)
    crop = np.ascontiguousarray(crop_image(image, box, size))
    return Record(
        identity=clip.identity,
        clip=clip.name,
        frame=number,
        image=simplejpeg.encode_jpeg(crop, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"),
        landmarks=points.astype(np.float32),
        weights=weights.astype(np.float32),
    )
