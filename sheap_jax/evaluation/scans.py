"""Real scans as ground truth: the part that counts, in metres."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from sheap_jax.evaluation.geometry_scores import MILLIMETRES, Scan
from sheap_jax.files.mesh_files import read_landmarks7, read_vertices

# NoW's landmarks: outer and inner corners of the right eye, inner and outer of the left, nose base, mouth corners.
RIGHT_OUTER, RIGHT_INNER, LEFT_INNER, LEFT_OUTER, NOSE = range(5)
STEERING_POINTS = 5_000  # of a real scan, in the refinement; what more would change is in docs/benchmarks.md
FEWEST_POINTS = 50  # in the face; fewer mean that landmarks and scan do not belong together


def face_region(points: Float[np.ndarray, "n 3"], landmarks: Float[np.ndarray, "7 3"]) -> Bool[np.ndarray, "n"]:
    """The points that NoW scores: those in a ball about a point above the base of the nose.

    Centre: nose + 0.3 (bridge - nose) with the bridge between the inner eye corners. Radius: 0.7 times the distance of
    the outer eye corners plus 0.7 times that of bridge and nose.
    """
    bridge = (landmarks[RIGHT_INNER] + landmarks[LEFT_INNER]) / 2
    nose = landmarks[NOSE]
    center = nose + 0.3 * (bridge - nose)
    eyes = np.linalg.norm(landmarks[RIGHT_OUTER] - landmarks[LEFT_OUTER])
    radius = 1.4 * (eyes + np.linalg.norm(bridge - nose)) / 2
    return np.linalg.norm(points - center, axis=-1) <= radius


def load_scan(mesh: str | Path, landmarks: str | Path, *, unit: float = 1 / MILLIMETRES) -> Scan:
    """The face of a scan and its landmarks, in metres.

    Args:
        mesh: .obj or .ply, any number of vertices; no faces are needed.
        landmarks: seven points in the same coordinates, see `read_landmarks7`.
        unit: of the files in metres; NoW's scans are in millimetres.

    Raises FileNotFoundError; ValueError for damaged files, or when hardly any vertex lies near the landmarks.
    """
    points, seven = unit * read_vertices(mesh), unit * read_landmarks7(landmarks)
    face = points[face_region(points, seven)]
    if len(face) < FEWEST_POINTS:
        raise ValueError(
            f"only {len(face)} vertices of {mesh} lie in the face that {landmarks} describes: "
            "are scan and landmarks of one person and in one unit?"
        )
    return Scan(face, seven)
