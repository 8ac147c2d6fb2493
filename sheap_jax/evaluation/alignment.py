"""Closed-form alignment of corresponding points (Procrustes), the start of every geometry metric.

float64 NumPy: evaluation runs on the host, on meshes of a few thousand points, and hundredths of a millimetre count.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation. A rigid motion has scale 1; rotations never reflect."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    def apply(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return self.scale * points @ self.rotation.T + self.translation

    def apply_inverse(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return (points - self.translation) @ self.rotation / self.scale

    def without_scale(self, fixed: Float[np.ndarray, "3"]) -> "Similarity":
        """The rigid motion with the same rotation that maps the same point to `fixed`."""
        source = (fixed - self.translation) @ self.rotation / self.scale
        return Similarity(1.0, self.rotation, fixed - self.rotation @ source)


def procrustes(source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], *, with_scale: bool) -> Similarity:
    """The similarity (or rigid motion) of `source` that lies closest to `target` in the least-squares sense.

    Umeyama 1991, eq. 40-43. If a reflection would fit better, the best proper rotation is returned all the same: the
    script of the NoW benchmark lets the reflection win, which turns a face inside out.

    Raises ValueError for fewer than three points, or points that do not fix a rotation (all on one line).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(f"procrustes needs two [n, 3] arrays with n >= 3, not {source.shape} and {target.shape}")
    source_center, target_center = source.mean(axis=0), target.mean(axis=0)
    centered_source, centered_target = source - source_center, target - target_center
    u, singular, vt = np.linalg.svd(centered_target.T @ centered_source)
    if not np.isfinite(singular).all() or singular[1] <= 1e-12 * singular[0] or singular[0] == 0:
        raise ValueError("procrustes: the points lie on one line or are not finite, no rotation is the best one")
    proper = np.array([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)])
    proper[2] = np.sign(proper[2])
    rotation = (u * proper) @ vt
    scale = float(singular @ proper / np.sum(centered_source**2)) if with_scale else 1.0
    return Similarity(scale, rotation, target_center - scale * rotation @ source_center)
