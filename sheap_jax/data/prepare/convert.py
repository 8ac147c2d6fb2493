"""One clip to records: landmarks, crop, JPEG. What cannot be used is counted by reason."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.cropping import CropBox, crop_image, follow_box, to_crop, upright_box
from sheap_jax.data.codec import Record
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.landmarks import LandmarkSource, landmark_weights
from sheap_jax.data.prepare.quality import (
    BLURRED,
    JUMP,
    NO_FACE,
    FaceBox,
    Quality,
    face_box,
    has_jumped,
    sharpness,
    unusable,
)
from sheap_jax.data.prepare.video import FrameReader

JPEG_QUALITY = 95


class FrameFacts(NamedTuple):
    """Where a record comes from in its source, and how good it is."""

    seconds: float  # from the clip's first frame
    center: tuple[float, float]  # of the crop, pixels of the source
    half: float  # half the side of the crop
    turns: int  # quarter turns, counterclockwise, that set the head upright
    face: float  # side of the landmarks' box
    sharpness: float


class ConvertedClip(NamedTuple):
    """Records of one clip, and how many of its frames were left out for which reason."""

    records: list[Record]
    facts: list[FrameFacts]  # of the records
    frames: int  # looked at, with or without a face
    skipped: Counter[str]
    rate: float  # frames per second of the video, on average; 0 for images


class _Track(NamedTuple):
    """Frames in a row without a jump."""

    records: list[Record]
    facts: list[FrameFacts]


def convert_clip(
    clip: Clip,
    source: LandmarkSource,
    *,
    image_size: int = 224,
    stride: int = 1,
    max_frames: int = 0,
    quality: Quality = Quality(),  # noqa: B008 an immutable tuple
) -> ConvertedClip:
    """Crop every `stride`-th frame of a clip around its largest face, at most `max_frames` (0: as many as there are).

    Raises:
      PrepareError: the clip cannot be decoded, or no frame of it can be used; the message says why.
    """
    source.start(clip)
    reader = FrameReader(clip, stride=stride, max_frames=max_frames)
    tracks: list[_Track] = []
    skipped: Counter[str] = Counter()
    previous: tuple[int, FaceBox, CropBox] | None = None  # of the last frame with a face
    frames = 0
    for number, seconds, image in reader:
        frames += 1
        faces = source.detect(number, image)
        if not len(faces):
            skipped[NO_FACE] += 1
            continue
        landmarks = max(faces, key=lambda points: face_box(points).side)
        reason = unusable(landmarks, image, min_face=quality.min_face)
        if reason:
            skipped[reason] += 1
            continue
        face, box = face_box(landmarks), upright_box(landmarks)
        if previous is None or has_jumped(previous[1], face, max_jump=quality.max_jump):
            tracks.append(_Track([], []))
        else:
            box = follow_box(previous[2], box, frames=number - previous[0])
        previous = (number, face, box)
        crop, points = np.ascontiguousarray(crop_image(image, box, image_size)), to_crop(landmarks, box, image_size)
        sharp = sharpness(crop, points)
        if sharp < quality.min_sharpness:
            skipped[BLURRED] += 1
            continue
        weights = landmark_weights(landmarks, height=image.shape[0], width=image.shape[1])
        tracks[-1].records.append(_record(clip, number, crop, points, weights))
        x, y = box.center.tolist()
        tracks[-1].facts.append(FrameFacts(seconds, (x, y), float(box.half), int(box.turns), face.side, sharp))
    source.finish(reader.total)
    longest = max(tracks, key=lambda track: len(track.records), default=_Track([], []))
    skipped[JUMP] = sum(len(track.records) for track in tracks) - len(longest.records)
    if not longest.records:
        reasons = "; ".join(f"{quality.in_words(reason)} ({count})" for reason, count in skipped.most_common() if count)
        raise PrepareError(f"no usable frame among {frames}: {reasons}")
    return ConvertedClip(longest.records, longest.facts, frames, +skipped, reader.rate)


def _record(
    clip: Clip,
    number: int,
    crop: UInt8[np.ndarray, "s s 3"],
    points: Float[np.ndarray, "68 2"],
    weights: Float[np.ndarray, "68"],
) -> Record:
    import simplejpeg

    return Record(
        identity=clip.identity,
        clip=clip.name,
        frame=number,
        image=simplejpeg.encode_jpeg(crop, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"),
        landmarks=points.astype(np.float32),
        weights=(weights * ((points >= 0) & (points <= len(crop))).all(axis=1)).astype(np.float32),
    )
