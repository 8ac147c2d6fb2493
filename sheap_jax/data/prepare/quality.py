"""Which frames are good enough to learn from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

NO_FACE = "no face found"
OUTSIDE = "most landmarks outside the image"
DEGENERATE = "landmarks not finite or all on one point"
SMALL = "face too small"
BLURRED = "face blurred"
JUMP = "apart from the clip's longest track"

_MIN_VISIBLE = 0.5  # share of the landmarks that must lie inside the image
_FACE_SIZE = 96  # pixels at which sharpness is measured


class Quality(NamedTuple):
    """What a frame must reach."""

    min_face: float = 64.0  # side of the landmarks' box, pixels of the source
    min_sharpness: float = 20.0  # see `sharpness`
    max_jump: float = 0.75  # movement and growth of that box from one used frame to the next, in its sides

    def in_words(self, reason: str) -> str:
        """Why a frame was left out, with the limit and the option that changes it."""
        limits = {
            SMALL: f"below --min-face {self.min_face:g} pixels",
            BLURRED: f"below --min-sharpness {self.min_sharpness:g}",
            JUMP: f"--max-jump {self.max_jump:g}",
        }
        return f"{reason}, {limits[reason]}" if reason in limits else reason


class FaceBox(NamedTuple):
    """The square box of the landmarks."""

    center: Float[np.ndarray, "2"]
    side: float


def face_box(landmarks: Float[np.ndarray, "68 2"]) -> FaceBox:
    """The square box of landmarks in pixels."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    return FaceBox((low + high) / 2, float((high - low).max()))


def unusable(
    landmarks: Float[np.ndarray, "68 2"], image: UInt8[np.ndarray, "h w 3"], *, min_face: float = 0.0
) -> str | None:
    """Why a face cannot be used, None if it can."""
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() <= 1.0:
        return DEGENERATE
    height, width = image.shape[:2]
    inside = ((landmarks >= 0) & (landmarks <= (width, height))).all(axis=1)
    if inside.mean() < _MIN_VISIBLE:
        return OUTSIDE
    return SMALL if face_box(landmarks).side < min_face else None


def has_jumped(before: FaceBox, now: FaceBox, *, max_jump: float) -> bool:
    """Whether the box moved or grew so much that it may be another face, or another shot."""
    moved = float(np.linalg.norm(now.center - before.center)) / before.side
    grown = max(now.side / before.side, before.side / now.side) - 1.0
    return max(moved, grown) > max_jump


def sharpness(crop: UInt8[np.ndarray, "s s 3"], landmarks: Float[np.ndarray, "68 2"]) -> float:
    """Variance of the Laplacian of the face in grey levels, at one size for all faces; blurred ones have little.

    Args:
      landmarks: pixels of the crop.
    """
    import cv2

    low = np.clip(np.floor(landmarks.min(axis=0)), 0, len(crop) - 2).astype(int)
    high = np.clip(np.ceil(landmarks.max(axis=0)), low + 2, len(crop)).astype(int)
    face = cv2.cvtColor(crop[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    return float(
        cv2.Laplacian(cv2.resize(face, (_FACE_SIZE, _FACE_SIZE), interpolation=cv2.INTER_AREA), cv2.CV_64F).var()
    )
