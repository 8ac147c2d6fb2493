"""Random changes of a pair that keep it a pair: mirror, colour gain, crop.

Mirror and gain are shared by both frames, since identity, skin and light of the source explain the target.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from sheap_jax.types import Frame


def _mirrored_order() -> np.ndarray:
    """Index of the landmark on the other side of the face, for each of the 68 (iBUG order)."""
    runs = [(16, 0), (26, 17), (27, 30), (35, 31), (45, 42), (47, 46), (39, 36), (41, 40), (54, 48), (59, 55)]
    runs += [(64, 60), (67, 65)]  # jaw, brows, nose bridge, nostrils, eyes (right from left), outer and inner lips
    return np.concatenate([np.arange(a, b + (1 if b > a else -1), 1 if b > a else -1) for a, b in runs])


FLIP_ORDER = _mirrored_order()


class Augmentation(NamedTuple):
    """How much a pair may change."""

    flip: bool = True  # mirror every second pair
    color_jitter: float = 0.1  # each channel's gain is uniform in 1 +- this, the same for both frames
    crop_jitter: float = 0.0  # zoom and shift of each frame on its own, up to this share of the image


def augment_pair(
    source: Frame, target: Frame, augmentation: Augmentation, generator: np.random.Generator
) -> tuple[Frame, Frame]:
    """A randomly changed pair of unbatched frames (images [h, w, 3] in [0, 1])."""
    # All numbers are drawn at every call, so that one switch does not change what the others do.
    mirrored = generator.random() < 0.5
    gain = (1.0 + augmentation.color_jitter * generator.uniform(-1.0, 1.0, 3)).astype(np.float32)
    crops = augmentation.crop_jitter * generator.uniform(-1.0, 1.0, (2, 3))
    frames = []
    for frame, (zoom, right, down) in zip((source, target), crops, strict=True):
        if augmentation.crop_jitter:
            frame = crop(frame, zoom=1.0 + zoom, shift=(right, down))
        if augmentation.flip and mirrored:
            frame = flip(frame)
        if augmentation.color_jitter:
            frame = frame._replace(image=scale_channels(np.asarray(frame.image), gain))
        frames.append(frame)
    return frames[0], frames[1]


def flip(frame: Frame) -> Frame:
    """The mirror image: x becomes width - x, and left landmarks take the places of the right ones."""
    width = np.float32(frame.image.shape[1])
    landmarks: Float32[np.ndarray, "l 2"] = np.asarray(frame.landmarks)[FLIP_ORDER]
    landmarks[:, 0] = width - landmarks[:, 0]
    image = np.ascontiguousarray(frame.image[:, ::-1])
    return Frame._make((image, landmarks, np.asarray(frame.landmark_weight)[FLIP_ORDER]))


def scale_channels(image: Float32[np.ndarray, "h w 3"], gain: Float32[np.ndarray, "3"]) -> Float32[np.ndarray, "h w 3"]:
    """`image` times one gain per channel, cut off at 1."""
    height, width = image.shape[:2]
    # Whole rows at a time: NumPy is several times slower with an inner axis of three.
    scaled = image.reshape(height, 3 * width) * np.tile(gain, width)
    return np.minimum(scaled, np.float32(1.0), out=scaled).reshape(image.shape)


def crop(frame: Frame, *, zoom: float, shift: tuple[float, float]) -> Frame:
    """Zoom about the image's centre, then shift by shares of the width and height; edges are repeated."""
    import cv2

    image = np.asarray(frame.image)
    height, width = image.shape[:2]
    centre = np.array([width, height]) / 2.0
    offset = centre - zoom * centre + np.array(shift) * (width, height)
    # OpenCV puts pixel centres at whole numbers, here they lie at halves.
    cv_offset = offset + 0.5 * zoom - 0.5
    matrix = np.array([[zoom, 0.0, cv_offset[0]], [0.0, zoom, cv_offset[1]]])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    landmarks = (np.asarray(frame.landmarks) * zoom + offset).astype(np.float32)
    return Frame._make((moved, landmarks, frame.landmark_weight))
