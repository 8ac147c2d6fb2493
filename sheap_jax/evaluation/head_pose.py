"""Head rotations: of a posed mesh, and of landmarks in a picture."""

import cv2
import numpy as np
from jaxtyping import Float

from sheap_jax.evaluation.landmark_errors import INNER
from sheap_jax.geometry import official_camera

ANGLES = ("pitch", "yaw", "roll")  # about x, y and z of head space, in degrees


def rotations_of_landmarks(
    points: Float[np.ndarray, "n 68 2"], neutral: Float[np.ndarray, "68 3"], *, image_size: int
) -> Float[np.ndarray, "n 3 3"]:
    """How a head with these neutral landmarks is turned where its eyes, nose and mouth are seen at `points` (pixels).

    The pose with the smallest projected error, searched from a straight head (OpenCV's solvePnP). The camera is the
    official one, which shows heads almost without perspective: angles are good to some degrees, and another face than
    `neutral` shifts the pitch.
    """
    camera = official_camera(image_size)
    intrinsics = np.asarray(camera.intrinsics, np.float64)
    view = np.asarray(camera.viewmat, np.float64)
    start, _ = cv2.Rodrigues(view[:3, :3])
    found = []
    for one in points:
        _, rotation, _ = cv2.solvePnP(
            neutral[INNER].astype(np.float64),
            one[INNER].astype(np.float64),
            intrinsics,
            None,
            start.copy(),
            view[:3, 3:].copy(),
            useExtrinsicGuess=True,
            flags=cv2.SOLVEPNP_ITERATIVE,
        )
        found.append(view[:3, :3].T @ cv2.Rodrigues(rotation)[0])
    return np.stack(found)


def rotations_of_meshes(
    posed: Float[np.ndarray, "n p 3"], neutral: Float[np.ndarray, "n p 3"]
) -> Float[np.ndarray, "n 3 3"]:
    """The rotations that bring points of neutral heads nearest to the posed ones (Kabsch 1976)."""
    first, second = (points - points.mean(axis=1, keepdims=True) for points in (neutral, posed))
    u, _, vt = np.linalg.svd(np.swapaxes(second, 1, 2) @ first)
    handed = np.ones((len(u), 3))
    handed[:, 2] = np.linalg.det(u @ vt)
    return np.asarray((u * handed[:, None]) @ vt)


def angles(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """Pitch, yaw and roll in degrees: R = R_y(yaw) R_x(pitch) R_z(roll)."""
    yaw = np.arctan2(rotations[:, 0, 2], rotations[:, 2, 2])
    pitch = np.arcsin(np.clip(-rotations[:, 1, 2], -1.0, 1.0))
    roll = np.arctan2(rotations[:, 1, 0], rotations[:, 1, 1])
    return np.degrees(np.stack([pitch, yaw, roll], axis=1))
