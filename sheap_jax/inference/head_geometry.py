"""Predicted heads in the picture they come from: meshes, landmarks, cameras."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from sheap_jax.cropping import CropBox
from sheap_jax.evaluation.predictions import HeadGeometry, pose_heads
from sheap_jax.geometry import OFFICIAL_FOCAL, official_camera
from sheap_jax.inference.batches import in_buckets
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import HeadParams


def posed_heads(model: MorphableModel, head: HeadParams) -> HeadGeometry:
    """Vertices and landmarks of each head in metres. Compiles for few numbers of heads only."""
    return in_buckets(lambda rows: pose_heads(model, rows), head)


def turn_heads(model: MorphableModel, head: HeadParams, turns: Int[np.ndarray, "n"]) -> HeadParams:
    """The same heads seen by the official camera after `turns` quarter turns about its axis, counterclockwise.

    All vertices turn about that axis, the world's z. The root's rotation turns them about its own joint; the
    translation makes up the difference.
    """
    about_axis = Rotation.from_rotvec(np.pi / 2 * np.asarray(turns)[:, None] * [0.0, 0.0, 1.0])
    rotations = np.array(head.rotations)
    rotations[:, 0] = (about_axis * Rotation.from_rotvec(rotations[:, 0])).as_rotvec()
    translation = np.zeros_like(head.translation)
    turned: HeadParams = head._replace(**{"rotations": rotations, "translation": translation})
    wanted = np.einsum("nab,nvb->nva", about_axis.as_matrix(), posed_heads(model, head).vertices)
    shift = (wanted - posed_heads(model, turned).vertices).mean(axis=1)
    return turned._replace(**{"translation": shift.astype(translation.dtype)})


class PictureCameras(NamedTuple):
    """Pinhole cameras without skew, as sheap_jax.types.Camera, in NumPy and for the pixels of whole pictures."""

    viewmat: Float[np.ndarray, "*n 4 4"]
    intrinsics: Float[np.ndarray, "*n 3 3"]

    @property
    def matrix(self) -> Float[np.ndarray, "*n 3 4"]:
        """P = K [R | t]: homogeneous head space to pixels, (u, v, w) -> (u / w, v / w)."""
        return self.intrinsics @ self.viewmat[..., :3, :]


def picture_cameras(box: CropBox) -> PictureCameras:
    """The official camera of each crop as a camera of the whole picture: the same rays, in the picture's pixels."""
    sides = 2 * box.half_sides
    intrinsics = np.zeros((*sides.shape[:-1], 3, 3))
    intrinsics[..., [0, 1], [0, 1]] = OFFICIAL_FOCAL * sides
    intrinsics[..., :2, 2] = box.center
    intrinsics[..., 2, 2] = 1.0
    viewmat = np.asarray(official_camera(1).viewmat, np.float64)
    return PictureCameras(np.broadcast_to(viewmat, (*sides.shape[:-1], 4, 4)), intrinsics)


def project_points(
    matrix: Float[np.ndarray, "*b 3 4"], points: Float[np.ndarray, "*b v 3"]
) -> Float[np.ndarray, "*b v 2"]:
    """Pixels of points in head space."""
    image = points @ np.swapaxes(matrix[..., :3], -1, -2) + matrix[..., None, :, 3]
    return image[..., :2] / image[..., 2:]
