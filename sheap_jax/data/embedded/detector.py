"""A stand-in for a landmark detector and for the cropping that follows it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sheap_jax.cropping import crop_box
from sheap_jax.geometry import OFFICIAL_DISTANCE, OFFICIAL_FOCAL

JAW = 17  # points 0-16 are placed less surely than the others


class DetectorNoise(NamedTuple):
    """Errors of the detector in the frames of one clip."""

    offset: Float[np.ndarray, "n 68 2"]  # in distances between the eyes
    weights: Float[np.ndarray, "n 68"]  # 0 where nothing was detected


class FramedHeads(NamedTuple):
    """Where the head of each frame must be, so that the image is the crop that the crop rule gives."""

    translation: Float[np.ndarray, "n 3"]  # metres
    exact: Float[np.ndarray, "n 68 2"]  # pixels
    detected: Float[np.ndarray, "n 68 2"]  # pixels


def draw_noise(rng: np.random.Generator, frames: int, *, level: float, missing: float) -> DetectorNoise:
    """Independent errors, an offset that the points of a frame share, bigger errors at the jaw, and failures.

    Args:
      level: standard deviation of the independent part, in distances between the eyes.
      missing: share of points that are far off and known to be bad (weight 0).
    """
    spread = np.full((68, 1), level)
    spread[:JAW] *= 2.0
    offset = spread * rng.standard_normal((frames, 68, 2))
    offset += 0.7 * level * rng.standard_normal((frames, 1, 2))
    tangential = 2.0 * level * rng.standard_normal((frames, 1, 1))  # the jaw as a whole slides up or down
    offset[:, :JAW, 1:] += tangential
    lost = rng.random((frames, 68)) < missing
    offset += np.where(lost[..., None], 12 * level * rng.standard_normal((frames, 68, 2)), 0.0)
    return DetectorNoise(offset, np.where(lost, 0.0, 1.0).astype(np.float32))


def frame_heads(
    landmarks: Float[np.ndarray, "n 68 3"],
    noise: DetectorNoise,
    jitter: Float[np.ndarray, "n 3"],
    *,
    size: int,
) -> FramedHeads:
    """Move each head until the crop rule, applied to its detected landmarks, gives the full image.

    Args:
      landmarks: posed, metres, before translation.
      jitter: how far the crop is off (x, y in image sizes, logarithm of its size), as trackers lag behind.
    """
    translation = np.zeros((len(landmarks), 3))
    translation[:, :2] = -landmarks[:, 30, :2]
    focal = OFFICIAL_FOCAL * size
    found = noise.weights > 0
    for _ in range(6):
        exact, detected = _detect(landmarks + translation[:, None], noise, size)
        for i in range(len(landmarks)):
            box = crop_box(detected[i, found[i]])
            wanted = size / 2 * (1 + 2 * jitter[i, :2])
            distance = OFFICIAL_DISTANCE - translation[i, 2]
            translation[i, 2] = OFFICIAL_DISTANCE - distance * box.half / (size / 2) * np.exp(jitter[i, 2])
            shift = (wanted - box.center) / focal * distance
            translation[i, :2] += shift * [1, -1]
    exact, detected = _detect(landmarks + translation[:, None], noise, size)
    return FramedHeads(translation.astype(np.float32), exact, detected.astype(np.float32))


def _detect(points: np.ndarray, noise: DetectorNoise, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact and detected pixels of world points under the official camera (in float64)."""
    depth = OFFICIAL_DISTANCE - points[..., 2:]
    exact = points[..., :2] * [1, -1] / depth * (OFFICIAL_FOCAL * size) + size / 2
    eyes = np.linalg.norm(exact[:, 36:42].mean(axis=1) - exact[:, 42:48].mean(axis=1), axis=-1)
    return exact, exact + noise.offset * np.maximum(eyes, size / 12)[:, None, None]
