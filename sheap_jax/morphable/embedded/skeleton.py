"""Joints, skinning weights and named regions of the embedded head, all smooth functions of the template position."""

import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import EYE, MOUTH, Points
from sheap_jax.morphable.embedded.identity import ramp
from sheap_jax.morphable.embedded.mesh import PARTS, HeadMesh
from sheap_jax.morphable.embedded.surface import ear_coordinates, mouth_half_width

JOINTS: dict[str, tuple[float, float, float]] = {  # face frame, millimetres
    "root": (0.0, -165.0, -100.0),
    "neck": (0.0, -100.0, -92.0),
    "jaw": (0.0, -25.0, -60.0),
    "left_eye": (31.5, 0.0, 0.0),
    "right_eye": (-31.5, 0.0, 0.0),
}
PARENTS = (-1, 0, 1, 1, 1)


def joint_regressor(mesh: HeadMesh) -> Float[np.ndarray, "j v"]:
    """Affine weights that put every joint at its place: the combination of least norm of the vertices around it."""
    rows = []
    for name, position in JOINTS.items():
        if name.endswith("_eye"):
            near = mesh.part == PARTS.index(f"{name}ball")
        else:
            near = (np.abs(mesh.points[:, 1] - position[1]) < 28.0) & (mesh.part == 0) & (mesh.points[:, 2] < 5.0)
        system = np.concatenate([mesh.points[near] - position, np.ones((near.sum(), 1))], axis=1).T
        row = np.zeros(len(mesh.points))
        row[near] = np.linalg.pinv(system) @ np.array([0.0, 0.0, 0.0, 1.0])
        rows.append(row)
    return np.stack(rows)


def jaw_weight(mesh: HeadMesh) -> np.ndarray:
    """Share of the jaw's motion: one below the line lips - jaw joint, sharp between the lips, soft elsewhere."""
    p = mesh.anchor
    hinge, lips = np.array(JOINTS["jaw"]), MOUTH
    along = (lips - hinge)[1:] / np.linalg.norm((lips - hinge)[1:])
    above = (p[:, 1] - hinge[1]) * along[1] - (p[:, 2] - hinge[2]) * along[0]
    beyond = np.maximum(np.abs(mesh.mouth[:, 0]) - mouth_half_width() + 4.0, 0.0)
    near = np.exp(-((beyond / 12.0) ** 2)) * (p[:, 2] > -10)
    height = near * mesh.mouth[:, 1] + (1 - near) * above
    width = near * (1.1 + 0.25 * beyond) + (1 - near) * 9.0
    weight = 1.0 / (1.0 + np.exp(np.clip(height / width, -30, 30)))
    behind = ramp(p[:, 2], -88.0, -40.0)[:, 0]
    throat = ramp(p[:, 1] + 0.25 * p[:, 2], -140.0, -112.0)[:, 0]
    return weight * behind * throat * (mesh.part < 3)


def skinning_weights(mesh: HeadMesh) -> Float[np.ndarray, "v j"]:
    """Weights of (root, neck, jaw, left eye, right eye); rows sum to one."""
    weights = np.zeros((len(mesh.points), len(JOINTS)))
    head = ramp(mesh.anchor[:, 1] - 0.15 * (mesh.anchor[:, 2] + 100.0), -172.0, -95.0)[:, 0]
    jaw = jaw_weight(mesh)
    weights[:, 0] = (1 - head) * (1 - jaw)
    weights[:, 1] = head * (1 - jaw)
    weights[:, 2] = jaw
    for label, column in ((3, 3), (4, 4)):
        weights[mesh.part == label] = np.eye(len(JOINTS))[column]
    return weights


def regions(mesh: HeadMesh) -> dict[str, Float[np.ndarray, "v"]]:
    """Named vertex masks, 1 inside and 0 outside."""
    p, part = mesh.points, mesh.part
    skin = part == 0
    ears = skin & (ear_coordinates(mesh.chart)[0] < 1.0)
    neck = skin & (p[:, 1] + 0.3 * (p[:, 2] + 40.0) < -116.0)
    across, height = mesh.mouth[:, 0], mesh.mouth[:, 1]
    lips = skin & (p[:, 2] > 0) & (((across / 29.0) ** 2 + (height / np.where(height > 0, 12.0, 15.0)) ** 2) < 1.0)
    mouth = skin & (p[:, 2] > 0) & (((across / 34.0) ** 2 + (height / 21.0) ** 2) < 1.0)
    nose = (
        skin
        & (np.abs(p[:, 0]) < 8.0 + 0.26 * np.maximum(-p[:, 1], 0))
        & (p[:, 1] < 2)
        & (p[:, 1] > -50)
        & (p[:, 2] > 12)
    )
    eye_distance = np.minimum(np.linalg.norm(p - EYE, axis=1), np.linalg.norm(p - EYE * [-1, 1, 1], axis=1))
    lids = (skin & (eye_distance < 16.5) & (p[:, 2] > 0) & (np.abs(np.abs(p[:, 0]) - 31.7) < 15.5)) | (part == 1)
    brow = _brow_height(p)
    brows = skin & (np.abs(p[:, 1] - brow) < 5.0) & (np.abs(np.abs(p[:, 0]) - 33.0) < 22.0) & (p[:, 2] > -15)
    face = skin & ~ears & ~neck & (p[:, 2] > -45.0) & (p[:, 1] < 58.0)
    masks = {
        "face": face,
        "skull": skin & ~ears & ~neck & ~face,
        "neck": neck,
        "ears": ears,
        "nose": nose,
        "lips": lips,
        "mouth": mouth,
        "brows": brows,
        "lids": lids,
        "left_eye": part == 3,
        "right_eye": part == 4,
        "mouth_interior": part == 2,
    }
    return {name: mask.astype(np.float64) for name, mask in masks.items()}


def _brow_height(p: Points) -> np.ndarray:
    across = np.abs(p[:, 0])
    return 17.0 + 3.0 * np.sin(np.pi * np.clip((across - 11.0) / 44.0, 0, 1.2))
