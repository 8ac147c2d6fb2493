"""The jaw line that slides with the head's yaw: landmarks 0-16 as people and detectors mark them.

They mark the visible outline of the cheek. When the head turns, the outline of the side that turns away moves over
the cheek towards the nose; that of the other side stays at the jaw.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sheap_jax.morphable.model import SurfacePoints

YAWS = (*range(40), *range(-1, -40, -1))  # degrees, in the order of `contour_row`
_SLIDING = (*range(7), *range(10, 17))  # the three points of the chin keep their place
_NOSE = 0.3  # of a landmark's distance from the middle: nearer than this lies the nose, not the cheek


class _Slice(NamedTuple):
    """Points where a horizontal plane cuts the edges of a mesh."""

    face: Int[np.ndarray, "n"]
    barycentric: Float[np.ndarray, "n 3"]
    point: Float[np.ndarray, "n 3"]


def silhouette_contour(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    landmark_faces: Int[np.ndarray, "68"],
    landmark_barycentrics: Float[np.ndarray, "68 3"],
    *,
    skin: Bool[np.ndarray, "f"],
    camera_distance: float = 1.0,
) -> SurfacePoints:
    """Contour points [r, 17] of the neutral head for every yaw, for a camera on the axis at z = `camera_distance`.

    A landmark on the side that turns away takes the outermost point in the image among all surface points at its own
    height that lie in front of it; elsewhere it keeps its place.

    Args:
      skin: faces that can form the outline; eyes and mouth would add outlines of their own.
    """
    contour_faces = np.tile(landmark_faces[:17], (len(YAWS), 1))
    barycentrics = np.tile(landmark_barycentrics[:17], (len(YAWS), 1, 1)).astype(np.float32)
    for landmark in _SLIDING:
        place = landmark_barycentrics[landmark] @ vertices[faces[landmark_faces[landmark]]]
        cut = _slice(vertices, faces, np.flatnonzero(skin), place[1])
        side = np.sign(place[0])
        in_front = (side * cut.point[:, 0] > _NOSE * abs(place[0])) & (cut.point[:, 2] > place[2])
        for row, yaw in enumerate(YAWS):
            candidates = np.flatnonzero(in_front)
            if yaw * side <= 0 or not candidates.size:
                continue
            outward = side * _image_x(np.vstack([place, cut.point[candidates]]), np.radians(yaw), camera_distance)
            best = int(np.argmax(outward))
            if best > 0:
                contour_faces[row, landmark] = cut.face[candidates[best - 1]]
                barycentrics[row, landmark] = cut.barycentric[candidates[best - 1]]
    return SurfacePoints(contour_faces, barycentrics)


def _image_x(points: Float[np.ndarray, "n 3"], yaw: float, distance: float) -> Float[np.ndarray, "n"]:
    """Horizontal image coordinate of points after a rotation by `yaw` about the y axis."""
    x = np.cos(yaw) * points[:, 0] + np.sin(yaw) * points[:, 2]
    z = np.cos(yaw) * points[:, 2] - np.sin(yaw) * points[:, 0]
    return x / (distance - z)


def _slice(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], chosen: Int[np.ndarray, "g"], height: float
) -> _Slice:
    """Cut all edges of the chosen faces that cross the plane y = height."""
    above = vertices[faces[chosen]][:, :, 1] - height  # [g, 3]
    found = []
    for first, second in ((0, 1), (1, 2), (2, 0)):
        crossing = np.flatnonzero(above[:, first] * above[:, second] < 0)
        share = above[crossing, first] / (above[crossing, first] - above[crossing, second])
        barycentric = np.zeros((len(crossing), 3))
        barycentric[:, first], barycentric[:, second] = 1 - share, share
        found.append((chosen[crossing], barycentric))
    face = np.concatenate([face for face, _ in found])
    barycentric = np.concatenate([barycentric for _, barycentric in found])
    return _Slice(face, barycentric, np.einsum("nk,nkc->nc", barycentric, vertices[faces[face]]))
