"""One pytree for every 3D morphable model, and the function that poses it.

What differs between FLAME, ICT and the embedded head is data in this struct, never code.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sheap_jax.geometry import rotation_vector_to_matrix
from sheap_jax.types import HeadParams

CONTOUR_LANDMARKS = 17  # iBUG 0-16, the jaw line
JOINT_NAMES = (
    "root",
    "neck",
    "jaw",
    "left_eye",
    "right_eye",
)  # FLAME's; others may lack some (ICT: the jaw)


class SurfacePoints(NamedTuple):
    """Points on the faces of a mesh, as NumPy arrays."""

    faces: Int[np.ndarray, "*n"]
    barycentrics: Float[np.ndarray, "*n 3"]


@flax.struct.dataclass
class MorphableModel:
    """A linear head model with linear blend skinning. Lengths in metres, axes as in sheap_jax.types.

    Counts (V vertices, F faces, U uv points, S identity, E expression, J joints, R yaw rows) are free; nothing may
    depend on those of one model. `pose_basis` may have no rows, else 9 (J - 1). `contour_*` may have no rows: then
    landmarks 0-16 are the fixed ones. `uv` and `uv_faces` may have no rows: then nothing can be painted in a chart.
    """

    template: Float[Array, "v 3"]
    identity_basis: Float[Array, "s v 3"]  # per standard deviation
    expression_basis: Float[Array, "e v 3"]
    pose_basis: Float[Array, "p v 3"]  # multiplies vec(R_j - I) of joints 1..J-1, row-major
    joint_regressor: Float[Array, "j v"]
    skinning_weights: Float[Array, "v j"]
    faces: Int[Array, "f 3"]  # outward by the right-hand rule
    uv: Float[Array, "u 2"]  # in [0, 1], v up
    uv_faces: Int[Array, "f 3"]
    landmark_faces: Int[Array, "68"]
    landmark_barycentrics: Float[Array, "68 3"]
    contour_faces: Int[Array, "r 17"]  # row 0-39: yaw 0 to 39 degrees; row 40 + k: yaw -(k + 1) degrees
    contour_barycentrics: Float[Array, "r 17 3"]
    regions: dict[str, Float[Array, "v"]]  # named vertex masks, 1 inside, 0 outside
    parents: tuple[int, ...] = flax.struct.field(pytree_node=False)  # parent joint, -1 for the root
    joint_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    expression_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    name: str = flax.struct.field(pytree_node=False)
    # Joints are regressed from the head with its expression (FLAME), else from the identity alone (ICT, embedded).
    joints_follow_expression: bool = flax.struct.field(pytree_node=False, default=False)


def mean_params(model: MorphableModel, *batch: int) -> HeadParams:
    """Parameters of the mean head at the origin, with leading axes `batch`."""
    return HeadParams(
        shape=jnp.zeros((*batch, model.identity_basis.shape[0])),
        expression=jnp.zeros((*batch, model.expression_basis.shape[0])),
        rotations=jnp.zeros((*batch, len(model.parents), 3)),
        translation=jnp.zeros((*batch, 3)),
    )


def neutral_vertices(model: MorphableModel, shape: Float[Array, "*b s"]) -> Float[Array, "*b v 3"]:
    """Vertices of the identity without expression, pose or translation: what NoW evaluates."""
    return model.template + jnp.tensordot(shape, model.identity_basis, axes=1)


def forward(model: MorphableModel, params: HeadParams) -> Float[Array, "*b v 3"]:
    """Posed vertices in world space, metres.

    Linear identity and expression offsets, pose correctives, linear blend skinning about the joints (SMPL, eq. 2-4,
    as FLAME uses it), then the translation. Joints are regressed without pose correctives: from the identity alone,
    or with its expression (`joints_follow_expression`).
    """
    neutral = neutral_vertices(model, params.shape)
    vertices = neutral + jnp.tensordot(params.expression, model.expression_basis, axes=1)
    unposed = vertices if model.joints_follow_expression else neutral
    joints = jnp.einsum("jv,...vc->...jc", model.joint_regressor, unposed)
    local = rotation_vector_to_matrix(params.rotations)
    if model.pose_basis.shape[0]:
        deviation = (local[..., 1:, :, :] - jnp.eye(3, dtype=local.dtype)).reshape(*local.shape[:-3], -1)
        vertices = vertices + jnp.tensordot(deviation, model.pose_basis, axes=1)
    rotations, offsets = _joint_transforms(local, joints, model.parents)
    blended_rotation = jnp.einsum("vj,...jab->...vab", model.skinning_weights, rotations)
    blended_offset = jnp.einsum("vj,...jc->...vc", model.skinning_weights, offsets)
    posed = jnp.einsum("...vab,...vb->...va", blended_rotation, vertices) + blended_offset
    return posed + params.translation[..., None, :]


def _joint_transforms(
    local: Float[Array, "*b j 3 3"], joints: Float[Array, "*b j 3"], parents: tuple[int, ...]
) -> tuple[Float[Array, "*b j 3 3"], Float[Array, "*b j 3"]]:
    """World rotation of every joint, and the offset that makes x -> R x + offset turn about the joint."""
    rotations, positions = [], []
    for joint, parent in enumerate(parents):  # a handful of joints, unrolled: the chain is data of the model
        if parent < 0:
            rotations.append(local[..., joint, :, :])
            positions.append(joints[..., joint, :])
        else:
            bone = joints[..., joint, :] - joints[..., parent, :]
            rotations.append(rotations[parent] @ local[..., joint, :, :])
            positions.append(positions[parent] + jnp.einsum("...ab,...b->...a", rotations[parent], bone))
    rotation = jnp.stack(rotations, axis=-3)
    offset = jnp.stack(positions, axis=-2) - jnp.einsum("...jab,...jb->...ja", rotation, joints)
    return rotation, offset


def points_on_faces(
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    face_index: Int[Array, "*b l"],
    barycentrics: Float[Array, "*b l 3"],
) -> Float[Array, "*b l 3"]:
    """Surface points given by face and barycentric coordinates, which may differ along the batch."""
    corners = faces[face_index]  # [*b, l, 3]
    flat = corners.reshape(*corners.shape[:-2], -1)
    if flat.ndim == 1:
        gathered = vertices[..., flat, :]
    else:
        gathered = jnp.take_along_axis(vertices, flat[..., None], axis=-2)
    gathered = gathered.reshape(*gathered.shape[:-2], -1, 3, vertices.shape[-1])
    return jnp.einsum("...lk,...lkc->...lc", barycentrics, gathered)


def landmarks(
    model: MorphableModel, vertices: Float[Array, "*b v 3"], rotations: Float[Array, "*b j 3"]
) -> Float[Array, "*b 68 3"]:
    """The 68 iBUG landmarks of posed vertices; the jaw contour slides with the head's yaw where the model has rows.

    `rotations` are those of `HeadParams`; the yaw is that of root and neck. The choice of the row is
    piecewise constant and passes no gradient.
    """
    fixed = points_on_faces(vertices, model.faces, model.landmark_faces, model.landmark_barycentrics)
    if not model.contour_faces.shape[0]:
        return fixed
    row = contour_row(head_yaw(model, rotations), model.contour_faces.shape[0])
    contour = points_on_faces(vertices, model.faces, model.contour_faces[row], model.contour_barycentrics[row])
    return jnp.concatenate([contour, fixed[..., CONTOUR_LANDMARKS:, :]], axis=-2)


def head_yaw(model: MorphableModel, rotations: Float[Array, "*b j 3"]) -> Float[Array, "*b"]:
    """Yaw of the head in radians, positive when the face turns to the subject's left (+x)."""
    rotation = rotation_vector_to_matrix(rotations[..., 0, :])
    if "neck" in model.joint_names:
        neck = model.joint_names.index("neck")
        rotation = rotation @ rotation_vector_to_matrix(rotations[..., neck, :])
    return jnp.arctan2(rotation[..., 0, 2], rotation[..., 2, 2])


def contour_row(yaw: Float[Array, "*b"], rows: int) -> Int[Array, "*b"]:
    """Row of the contour table: whole degrees, 0-39 for yaw >= 0, 39 - yaw for yaw < 0, clipped to +-39 degrees.

    The sign is FLAME's: its table counts yaw positive in the direction of `head_yaw`.
    """
    degrees = jnp.clip(jnp.round(jnp.degrees(jax.lax.stop_gradient(yaw))), -39, 39).astype(jnp.int32)
    return jnp.clip(jnp.where(degrees >= 0, degrees, 39 - degrees), 0, rows - 1)
