"""Everything in front of the camera as one set of static arrays: head, teeth, hair shell and garment.

`build_scene_meshes` gathers once the arrays that are the same for all people. `dressed_model` makes the posable model
of one person; its template also carries teeth and hair.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from sheap_jax.data.embedded import clothes, hair, teeth
from sheap_jax.data.embedded.occlusion import light_transfer, template_normals, unshadowed_transfer
from sheap_jax.morphable.model import MorphableModel, points_on_faces

SKIN, EYE, MOUTH, TEETH, CLOTH = range(5)  # what a face of the solid layer is made of
CHIN = 8  # of the 68 landmarks


class SceneMeshes(NamedTuple):
    """Static arrays of the renderer. The solid layer is head, teeth, garment; the hair layer is rendered over it."""

    head_vertices: int
    solid_faces: Int[np.ndarray, "f 3"]
    solid_kind: Int[np.ndarray, "f"]
    solid_coordinates: Float[np.ndarray, "v 3"]  # template position; for teeth and garment see teeth.py and clothes.py
    transfer: Float[np.ndarray, "v 9"]  # of the head's vertices, see occlusion.py
    open_transfer: Float[np.ndarray, "v 9"]  # what it would be if nothing were hidden
    hair_faces: Int[np.ndarray, "g 3"]
    eye_centers: Float[np.ndarray, "2 3"]  # template, right then left; the origin where a model names no eyes
    landmarks: Float[np.ndarray, "68 3"]  # template


def build_scene_meshes(model: MorphableModel) -> SceneMeshes:
    """The arrays for one morphable model; its regions of eyes and mouth may be missing."""
    template, faces = np.asarray(model.template), np.asarray(model.faces)
    count = len(template)
    kind = np.full(len(faces), SKIN, np.int32)
    eyes = _region(model, "left_eye", "right_eye")
    kind[eyes[faces].all(axis=1)] = EYE
    kind[_region(model, "mouth_interior")[faces].all(axis=1)] = MOUTH
    tooth_faces, tooth_vertices = teeth.tooth_faces() + count, teeth.tooth_coordinates()
    cloth_faces = clothes.shoulder_faces() + count + len(tooth_vertices)
    coordinates = clothes.shoulder_coordinates()
    flat = np.concatenate([coordinates, np.zeros((len(coordinates), 1), np.float32)], axis=1)
    right = eyes & (template[:, 0] < 0)
    left = eyes & (template[:, 0] > 0)
    fixed = points_on_faces(model.template, model.faces, model.landmark_faces, model.landmark_barycentrics)
    return SceneMeshes(
        head_vertices=count,
        solid_faces=np.concatenate([faces, tooth_faces, cloth_faces]).astype(np.int32),
        solid_kind=np.concatenate([kind, np.full(len(tooth_faces), TEETH), np.full(len(cloth_faces), CLOTH)]).astype(
            np.int32
        ),
        solid_coordinates=np.concatenate([template, tooth_vertices, flat]).astype(np.float32),
        transfer=light_transfer(template, faces),
        open_transfer=unshadowed_transfer(template_normals(template, faces)),
        hair_faces=hair.shell_faces().astype(np.int32),
        eye_centers=np.stack([_center(template[right]), _center(template[left])]).astype(np.float32),
        landmarks=np.asarray(fixed),
    )


def _center(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """The mean of the points; the origin if there are none, which nothing then uses."""
    return points.mean(0) if len(points) else np.zeros(3)


def _region(model: MorphableModel, *parts: str) -> np.ndarray:
    """Vertices of all regions with one of these names."""
    inside = np.zeros(len(model.template), bool)
    for name, mask in model.regions.items():
        if name in parts:
            inside |= np.asarray(mask) > 0.5
    return inside


def dressed_model(
    model: MorphableModel, neutral: Float[np.ndarray, "v 3"], hair_vertices: Float[np.ndarray, "h 3"]
) -> MorphableModel:
    """The posable model of one person: a template without identity modes, then teeth, then hair.

    Upper teeth and hair move with the skull, lower teeth with the jaw joint. In a model without that joint they follow
    the chin's motion in the expressions. The joints are those of the person's own neutral head, as for the model's own
    identities.
    """
    corners = neutral[np.asarray(model.faces)[np.asarray(model.landmark_faces)]]
    rows = teeth.tooth_rows(np.einsum("lk,lkc->lc", model.landmark_barycentrics, corners))
    extra = np.concatenate([*rows, hair_vertices])
    skull = _joint(model, "neck", otherwise="root")
    jaw = _joint(model, "jaw", otherwise="neck")
    follows = np.repeat([skull, jaw, skull], [len(rows[0]), len(rows[1]), len(hair_vertices)])

    def pad(basis: Array) -> Float[np.ndarray, "k w 3"]:
        return np.pad(np.asarray(basis), ((0, 0), (0, len(extra)), (0, 0)))

    expressions = pad(model.expression_basis)
    if "jaw" not in model.joint_names:
        lower = len(neutral) + len(rows[0])
        expressions[:, lower : lower + len(rows[1])] = _jaw_shapes(model)[:, None]

    return dataclasses.replace(
        model,
        template=np.concatenate([neutral, extra]),
        identity_basis=np.zeros((0, len(neutral) + len(extra), 3), np.float32),
        expression_basis=expressions,
        pose_basis=pad(model.pose_basis),
        joint_regressor=np.pad(np.asarray(model.joint_regressor), ((0, 0), (0, len(extra)))),
        skinning_weights=np.concatenate(
            [model.skinning_weights, np.eye(len(model.parents), dtype=np.float32)[follows]]
        ),
    )


def _jaw_shapes(model: MorphableModel) -> Float[np.ndarray, "e 3"]:
    """How each expression that is named after the jaw moves the chin; others move lips and cheeks, not the bone."""
    corners = np.asarray(model.faces)[np.asarray(model.landmark_faces[CHIN])]
    moved = np.einsum("k,ekc->ec", model.landmark_barycentrics[CHIN], np.asarray(model.expression_basis)[:, corners])
    named = np.array([name.startswith("jaw") for name in model.expression_names], bool)
    return np.where(named[:, None], moved, 0.0)


def _joint(model: MorphableModel, name: str, *, otherwise: str) -> int:
    names = model.joint_names
    return next((names.index(one) for one in (name, otherwise) if one in names), 0)
