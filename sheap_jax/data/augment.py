"""Random changes of a pair that keep it a pair: mirror, colour gain, crop.

Mirror and gain are shared by both frames, since identity, skin and light of the source explain the target. The crop is
made where the image is decoded; mirror and gain wait for the device, where they are cheap (`float_batch`).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, UInt8

from sheap_jax.types import Batch, Frame, RawBatch, RawFrame


def _mirrored_order() -> np.ndarray:
    """Index of the landmark on the other side of the face, for each of the 68 (iBUG order)."""
    runs = [(16, 0), (26, 17), (27, 30), (35, 31), (45, 42), (47, 46), (39, 36), (41, 40), (54, 48), (59, 55)]
    runs += [(64, 60), (67, 65)]  # jaw, brows, nose bridge, nostrils, eyes (right from left), outer and inner lips
    return np.concatenate([np.arange(a, b + (1 if b > a else -1), 1 if b > a else -1) for a, b in runs])


FLIP_ORDER = _mirrored_order()


class Augmentation(NamedTuple):
    """How much a pair may change. The defaults are those of `sheap_jax.config.Data`."""

    flip: bool  # mirror every second pair
    color_jitter: float  # each channel's gain is uniform in 1 +- this, the same for both frames
    crop_jitter: float  # zoom and shift of each frame on its own, up to this share of the image
    degrade: float = 0.0  # share of pairs that a bad camera takes (degrade.py)


class Changes(NamedTuple):
    """What was drawn for b pairs."""

    mirrored: Bool[np.ndarray, "b"]
    gain: Float32[np.ndarray, "b 3"]
    zoom: Float[np.ndarray, "b 2"]  # of source and target; 1 changes nothing
    shift: Float[np.ndarray, "b 2 2"]  # (right, down) of source and target, shares of the image

    def of(self, pairs: Int[np.ndarray, "p"]) -> "Changes":
        """The changes of some of the pairs."""
        return Changes._make(values[pairs] for values in self)


def draw_changes(augmentation: Augmentation, pairs: int, generator: np.random.Generator) -> Changes:
    """Random changes for `pairs` pairs."""
    # All numbers are drawn at every call, so that one switch does not change what the others do.
    mirrored = generator.random(pairs) < 0.5
    gain = 1.0 + augmentation.color_jitter * generator.uniform(-1.0, 1.0, (pairs, 3))
    crops = augmentation.crop_jitter * generator.uniform(-1.0, 1.0, (pairs, 2, 3))
    return Changes(mirrored & augmentation.flip, gain.astype(np.float32), 1.0 + crops[..., 0], crops[..., 1:])


def crop_frames(frames: RawFrame, changes: Changes) -> None:
    """Zoom and shift frames [2, b, ...] (source and target of b pairs) in place."""
    for k, side in np.argwhere((changes.zoom != 1.0) | changes.shift.any(axis=-1)):
        zoom = float(changes.zoom[k, side])
        offset = _crop(frames.image[side, k], zoom=zoom, shift=changes.shift[k, side])
        frames.landmarks[side, k] = frames.landmarks[side, k] * zoom + offset


def _crop(image: UInt8[np.ndarray, "h w 3"], *, zoom: float, shift: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Zoom in place about the centre, then shift by shares of width and height; edges are repeated.

    Returns the offset: a point p of the image has moved to zoom * p + offset.
    """
    import cv2

    height, width = image.shape[:2]
    centre = np.array([width, height]) / 2.0
    offset = centre - zoom * centre + shift * (width, height)
    # OpenCV puts pixel centres at whole numbers, here they lie at halves.
    cv_offset = offset + 0.5 * zoom - 0.5
    matrix = np.array([[zoom, 0.0, cv_offset[0]], [0.0, zoom, cv_offset[1]]])
    image[...] = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return offset


def float_batch(raw: RawBatch) -> Batch:
    """What the device does to a batch: mirror pairs, make images float32 in [0, 1], apply the colour gain."""
    mirrored, gain = jnp.asarray(raw.mirrored), jnp.asarray(raw.gain)
    source, target = (_float_frame(_mirror(frame, mirrored), gain) for frame in (raw.source, raw.target))
    return Batch(source, target, jnp.asarray(raw.record))


def _mirror(frame: RawFrame, mirrored: Bool[Array, "b"]) -> Frame:
    """Frames [b, ...] with left and right exchanged where `mirrored`; images stay bytes."""
    image, landmarks, weight = (jnp.asarray(values) for values in frame)
    turned = landmarks[:, FLIP_ORDER] * jnp.array([-1.0, 1.0]) + jnp.array([image.shape[-2], 0.0])
    return Frame(
        jnp.where(mirrored[:, None, None, None], image[:, :, ::-1], image),
        jnp.where(mirrored[:, None, None], turned, landmarks),
        jnp.where(mirrored[:, None], weight[:, FLIP_ORDER], weight),
    )


def _float_frame(frame: Frame, gain: Float[Array, "b 3"]) -> Frame:
    scale = gain[:, None, None, :] * np.float32(1.0 / 255.0)
    return frame._replace(image=jnp.minimum(frame.image.astype(jnp.float32) * scale, 1.0))
