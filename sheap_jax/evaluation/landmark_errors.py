"""Errors of landmarks against those of a detector, by the parts of the face."""

import numpy as np
from jaxtyping import Float

from sheap_jax.evaluation.predictions import EYE_CORNERS
from sheap_jax.types import Frame

# iBUG's numbers. The jaw line is left out: detectors mark its visible outline, each in its own way.
INNER = slice(27, 68)
PARTS = {"eyes, nose and mouth": INNER, "eyes": slice(36, 48), "nose": slice(27, 36), "mouth": slice(48, 68)}
INNER_LIPS = (62, 66)  # their middles
OPENING = "opening of the mouth"
UNIT = "% of the eyes"


def part_errors(
    points: Float[np.ndarray, "n 68 2"], truth: Float[np.ndarray, "n 68 2"]
) -> dict[str, Float[np.ndarray, "n"]]:
    """Errors of each frame in percent of the distance of the detected outer eye corners.

    Mean distances of the landmarks of each part; and by how much the gap between the lips is too wide or too narrow,
    which does not depend on where the head is seen.
    """
    eyes = np.linalg.norm(np.subtract(*(truth[:, corner] for corner in EYE_CORNERS)), axis=-1)
    distance = np.linalg.norm(points - truth, axis=-1)
    errors = {name: distance[:, part].mean(axis=1) for name, part in PARTS.items()}
    gaps = (np.linalg.norm(np.subtract(*(of[:, lip] for lip in INNER_LIPS)), axis=-1) for of in (points, truth))
    errors[OPENING] = np.abs(np.subtract(*gaps))
    return {name: 100.0 * values / eyes for name, values in errors.items()}


def counts(frame: Frame) -> bool:
    """Whether a frame can be measured: all of its eyes, nose and mouth were detected."""
    return bool(np.all(np.asarray(frame.landmark_weight)[INNER] > 0))
