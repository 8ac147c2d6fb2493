"""FLAME as a `MorphableModel`, from the files that users download themselves:

    python -m sheap_jax.morphable.flame --model generic_model.pkl --landmarks landmark_embedding.npy \\
        --template head_template.obj [--eyelids eyelids.pt] [--masks FLAME_masks.pkl] OUT.npz

FLAME (flame.is.tue.mpg.de), 2020 or 2023, may not be passed on, so everybody converts their own. Besides the model:
68 landmarks with a sliding contour, the uv layout, and optionally the eyelids of the SHeaP release and the regions.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.morphable.model import CONTOUR_LANDMARKS, MorphableModel
from sheap_jax.morphable.storage import save_model
from sheap_jax.safe_pickle import load_npy, load_pickle
from sheap_jax.torch_files import load_torch

IDENTITY_CHANNELS = 300  # of shapedirs; the rest is expression
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
EYELID_NAMES = ("eyelid_right", "eyelid_left")  # channels of eyelids.pt
NUM_LANDMARKS = 68
SOURCES = {  # what each file is, from where, under which licence
    "model": "generic_model.pkl (FLAME 2020) or flame2023.pkl: the head model, from flame.is.tue.mpg.de after "
    "registration, under the licence shown there (FLAME 2023 Open is CC BY 4.0, others are non-commercial)",
    "landmarks": "landmark_embedding.npy: where the 68 landmarks lie, from the data of DECA "
    "(github.com/yfeng95/DECA) or EMOCA, non-commercial research",
    "template": "head_template.obj: the uv layout, from the data of DECA (github.com/yfeng95/DECA) or FLAME's texture "
    "space at flame.is.tue.mpg.de, non-commercial research",
    "eyelids": "eyelids.pt: two eyelid shapes, from the SHeaP release (github.com/nlml/SHeaP), CC BY-NC",
    "masks": "FLAME_masks.pkl: vertex regions, from flame.is.tue.mpg.de after registration, FLAME's licence",
}
_REGION_NAMES = {"left_eyeball": "left_eye", "right_eyeball": "right_eye"}  # as in our other models


class Landmarks(NamedTuple):
    """`landmark_*` and `contour_*` of a MorphableModel."""

    faces: Int[np.ndarray, "68"]
    barycentrics: Float[np.ndarray, "68 3"]
    contour_faces: Int[np.ndarray, "r 17"]
    contour_barycentrics: Float[np.ndarray, "r 17 3"]


class UvLayout(NamedTuple):
    """`uv` and `uv_faces` of a MorphableModel."""

    uv: Float[np.ndarray, "u 2"]
    faces: Int[np.ndarray, "f 3"]


def read_flame(
    model: Path, landmarks: Path, template: Path, *, eyelids: Path | None = None, masks: Path | None = None
) -> MorphableModel:
    """Build the model from FLAME's files; none of them is run (see safe_pickle).

    Raises:
      FileNotFoundError: files are missing; says which, from where, under which licence.
      ValueError: a file is not what it should be, or does not fit to the model; names it.
    """
    _check_presence(model=model, landmarks=landmarks, template=template, eyelids=eyelids, masks=masks)
    arrays = _read_model(model)
    vertices, faces = arrays["v_template"], arrays["f"].astype(np.int64)
    shapes = np.moveaxis(arrays["shapedirs"], -1, 0)  # [400, V, 3]
    expression, names = shapes[IDENTITY_CHANNELS:], [f"expression_{i}" for i in range(len(shapes) - IDENTITY_CHANNELS)]
    if eyelids is not None:
        expression = np.concatenate([expression, read_eyelids(eyelids, len(vertices))])
        names += EYELID_NAMES
    points = read_landmarks(landmarks, len(faces))
    layout = read_uv(template, faces)
    parents = np.where(arrays["kintree_table"][0] >= len(JOINT_NAMES), -1, arrays["kintree_table"][0].astype(np.int64))
    return MorphableModel(
        template=_float(vertices),
        identity_basis=_float(shapes[:IDENTITY_CHANNELS]),
        expression_basis=_float(expression),
        pose_basis=_float(np.moveaxis(arrays["posedirs"], -1, 0)),
        joint_regressor=_float(arrays["J_regressor"]),
        skinning_weights=_float(arrays["weights"]),
        faces=jnp.asarray(faces, jnp.int32),
        uv=_float(layout.uv),
        uv_faces=jnp.asarray(layout.faces, jnp.int32),
        landmark_faces=jnp.asarray(points.faces, jnp.int32),
        landmark_barycentrics=_float(points.barycentrics),
        contour_faces=jnp.asarray(points.contour_faces, jnp.int32),
        contour_barycentrics=_float(points.contour_barycentrics),
        regions={name: _float(mask) for name, mask in read_regions(masks, len(vertices)).items()},
        parents=tuple(int(parent) for parent in parents),
        joint_names=JOINT_NAMES,
        expression_names=tuple(names),
        name="flame",
    )


def _check_presence(**paths: Path | None) -> None:
    missing = {kind: path for kind, path in paths.items() if path is not None and not path.exists()}
    if missing:
        lines = [f"  {path} does not exist. It is {SOURCES[kind]}" for kind, path in missing.items()]
        raise FileNotFoundError("files of FLAME are missing, fetch them from their owners:\n" + "\n".join(lines))


def _read_model(path: Path) -> dict[str, np.ndarray]:
    """The pickle's arrays, with the shapes checked against one another."""
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a FLAME model: it holds a {type(content).__name__} instead of a dict")
    keys = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"{path} is not a FLAME model: it lacks {', '.join(missing)}")
    arrays = {key: np.asarray(content[key]) for key in keys}
    count, joints = len(arrays["v_template"]), len(JOINT_NAMES)
    expected = {
        "v_template": (count, 3),
        "posedirs": (count, 3, 9 * (joints - 1)),
        "J_regressor": (joints, count),
        "weights": (count, joints),
        "kintree_table": (2, joints),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise ValueError(f"{path}: {key} is {arrays[key].shape}, expected {shape}")
    if arrays["shapedirs"].shape[:2] != (count, 3) or arrays["shapedirs"].shape[2] <= IDENTITY_CHANNELS:
        raise ValueError(
            f"{path}: shapedirs is {arrays['shapedirs'].shape}, expected ({count}, 3, more than {IDENTITY_CHANNELS})"
        )
    return arrays


def read_landmarks(path: Path, num_faces: int) -> Landmarks:
    """The embedding's 68 fixed landmarks and its contour rows; variants with two eye centres lose those.

    The rows count yaw as `contour_row` does: in rows 1-39 the subject's left cheek, which then turns away, slides.
    """
    content = load_npy(path)
    keys = [f"{kind}_{value}" for kind in ("full_lmk", "dynamic_lmk") for value in ("faces_idx", "bary_coords")]
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is no landmark embedding: it lacks {', '.join(missing)}")
    faces = np.asarray(content["full_lmk_faces_idx"]).reshape(-1)[:NUM_LANDMARKS]
    barycentrics = np.asarray(content["full_lmk_bary_coords"]).reshape(-1, 3)[:NUM_LANDMARKS]
    rows = Landmarks(
        faces,
        barycentrics,
        np.asarray(content["dynamic_lmk_faces_idx"]),
        np.asarray(content["dynamic_lmk_bary_coords"]),
    )
    if len(faces) != NUM_LANDMARKS or rows.contour_faces.shape[1:] != (CONTOUR_LANDMARKS,):
        raise ValueError(
            f"{path}: {len(faces)} landmarks and contour {rows.contour_faces.shape}, expected 68 and (79, 17)"
        )
    if max(rows.faces.max(), rows.contour_faces.max()) >= num_faces:
        raise ValueError(f"{path} names faces beyond the model's {num_faces}: it belongs to another model")
    return rows


def read_uv(path: Path, faces: Int[np.ndarray, "f 3"]) -> UvLayout:
    """Texture coordinates of `head_template.obj`; its positions are not used (they are another pose and place)."""
    uv, corners = [], []
    for line in path.read_text().splitlines():
        fields = line.split()
        if fields[:1] == ["vt"]:
            uv.append([float(number) for number in fields[1:3]])
        elif fields[:1] == ["f"]:
            corners.append([[int(index) for index in corner.split("/")[:2]] for corner in fields[1:]])
    if any(len(face) != 3 or any(len(corner) != 2 for corner in face) for face in corners) or not corners:
        raise ValueError(f"{path} must hold triangles with texture coordinates")
    table = np.asarray(corners) - 1  # [f, 3, (vertex, uv)]
    return UvLayout(np.asarray(uv), _match_faces(path, table, faces))


def _match_faces(path: Path, table: Int[np.ndarray, "g 3 2"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "f 3"]:
    """uv corners in the order of the model's own faces, whatever the file's order of faces and corners."""
    own, other = np.argsort(faces, axis=1), np.argsort(table[..., 0], axis=1)
    own_sorted = np.take_along_axis(faces, own, axis=1)
    other_sorted = np.take_along_axis(table, other[..., None], axis=1)  # [g, 3, 2], vertices ascending
    own_order, other_order = np.lexsort(own_sorted.T), np.lexsort(other_sorted[..., 0].T)
    if not np.array_equal(own_sorted[own_order], other_sorted[other_order][..., 0]):
        raise ValueError(f"{path} has other triangles than the model: take the head_template.obj that belongs to FLAME")
    uv_faces = np.empty_like(faces)
    matched = np.empty_like(faces)
    matched[own_order] = other_sorted[other_order][..., 1]
    np.put_along_axis(uv_faces, own, matched, axis=1)
    return uv_faces


def read_eyelids(path: Path, num_vertices: int) -> Float[np.ndarray, "2 v 3"]:
    """The two eyelid channels of the SHeaP release: right, left; added before posing like expressions."""
    offsets = load_torch(path)
    if getattr(offsets, "shape", None) != (num_vertices, 3, len(EYELID_NAMES)):
        raise ValueError(
            f"{path} holds {getattr(offsets, 'shape', type(offsets).__name__)}, expected ({num_vertices}, 3, 2)"
        )
    return np.moveaxis(offsets, -1, 0)


def read_regions(path: Path | None, num_vertices: int) -> dict[str, Float[np.ndarray, "v"]]:
    """Region masks from `FLAME_masks.pkl`; without it only `face`, on everything, since none can be told apart."""
    if path is None:
        return {"face": np.ones(num_vertices)}
    content: Any = load_pickle(path)
    if not isinstance(content, dict) or "face" not in content:
        raise ValueError(f"{path} is not FLAME_masks.pkl: it has no region 'face'")
    regions = {}
    for name, vertices in content.items():
        mask = np.zeros(num_vertices)
        mask[np.asarray(vertices, np.int64)] = 1.0
        regions[_REGION_NAMES.get(str(name), str(name))] = mask
    return regions


def _float(array: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(np.asarray(array), jnp.float32)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sheap_jax.morphable.flame", description="Convert your FLAME download to one .npz."
    )
    required = {"type": Path, "required": True}
    parser.add_argument("--model", **required, metavar="FLAME.pkl", help="generic_model.pkl or flame2023.pkl")
    parser.add_argument("--landmarks", **required, metavar="landmark_embedding.npy")
    parser.add_argument("--template", **required, metavar="head_template.obj", help="for its uv coordinates")
    parser.add_argument("output", type=Path, metavar="OUT.npz")
    parser.add_argument("--eyelids", type=Path, metavar="eyelids.pt", help="two further expression channels")
    parser.add_argument("--masks", type=Path, metavar="FLAME_masks.pkl", help="vertex regions")
    options = parser.parse_args(arguments)
    try:
        model = read_flame(
            options.model, options.landmarks, options.template, eyelids=options.eyelids, masks=options.masks
        )
        save_model(model, options.output)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{options.output}: {model.template.shape[0]} vertices, {len(model.expression_names)} expression channels")


if __name__ == "__main__":
    main()
