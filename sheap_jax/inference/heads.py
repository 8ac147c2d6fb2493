"""Predicted heads in the picture they come from: meshes, landmarks, cameras."""

import numpy as np
from jaxtyping import Float

from sheap_jax.data.cropping import CropBox
from sheap_jax.evaluation.predictions import Heads, pose_heads
from sheap_jax.geometry import OFFICIAL_FOCAL, official_camera
from sheap_jax.inference.predictor import in_buckets
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import Camera, HeadParams


def posed_heads(model: MorphableModel, head: HeadParams) -> Heads:
    """Vertices and landmarks of each head in metres; what is compiled does not depend on their number."""
    return in_buckets(lambda rows: pose_heads(model, rows), head)


def picture_cameras(box: CropBox) -> Camera:
    """The official camera of each crop as a camera of the whole picture: the same rays, in the picture's pixels."""
    side, center = 2 * np.asarray(box.half), np.asarray(box.center)
    intrinsics = np.zeros((*side.shape, 3, 3))
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = OFFICIAL_FOCAL * side
    intrinsics[..., :2, 2] = center
    intrinsics[..., 2, 2] = 1.0
    viewmat = np.asarray(official_camera(1).viewmat, np.float64)
    return Camera(np.broadcast_to(viewmat, (*side.shape, 4, 4)), intrinsics)


def camera_matrices(camera: Camera) -> Float[np.ndarray, "*b 3 4"]:
    """P = K [R | t]: homogeneous head space to pixels, (u, v, w) -> (u / w, v / w)."""
    return np.asarray(camera.intrinsics) @ np.asarray(camera.viewmat)[..., :3, :]


def project_points(
    matrix: Float[np.ndarray, "*b 3 4"], points: Float[np.ndarray, "*b v 3"]
) -> Float[np.ndarray, "*b v 2"]:
    """Pixels of points in head space."""
    image = points @ np.swapaxes(matrix[..., :3], -1, -2) + matrix[..., None, :, 3]
    return image[..., :2] / image[..., 2:]
