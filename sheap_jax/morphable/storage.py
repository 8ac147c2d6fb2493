"""One `.npz` per morphable model, whatever it came from: the form in which training and evaluation read it."""

import dataclasses
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sheap_jax.files.array_files import read_npz
from sheap_jax.files.array_shapes import check_arrays
from sheap_jax.files.whole_file import whole_file
from sheap_jax.morphable.model import MorphableModel

FORMAT_VERSION = 2  # 1 did not say whether joints follow the expression
_AXES = {
    "template": "number v 3",
    "identity_basis": "number s v 3",
    "expression_names": "text e",
    "expression_basis": "number e v 3",
    "pose_basis": "number p v 3",
    "parents": "whole j",
    "joint_names": "text j",
    "joint_regressor": "number j v",
    "skinning_weights": "number v j",
    "faces": "whole f 3",
    "uv": "number u 2",
    "landmark_faces": "whole 68",
    "landmark_barycentrics": "number 68 3",
    "contour_faces": "whole r 17",
    "contour_barycentrics": "number r 17 3",
    "name": "text",
    "joints_follow_expression": "whole",
}
_REGION = "region/"  # prefix of the arrays of `regions`


def save_model(model: MorphableModel, path: str | os.PathLike[str]) -> None:
    """Write a model; an older file is replaced only once the new one is complete."""
    arrays: dict[str, np.ndarray] = {"format_version": np.array(FORMAT_VERSION)}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name == "regions":
            arrays |= {_REGION + name: np.asarray(mask) for name, mask in value.items()}
        else:
            arrays[field.name] = np.asarray(value)
    with whole_file(path) as temporary, temporary.open("wb") as file:  # to a path, NumPy may append .npz
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_model(path: str | os.PathLike[str]) -> MorphableModel:
    """Read a model that `save_model` wrote.

    Raises:
      FileNotFoundError: there is no such file; says how to make one.
      ValueError: the file is not whole, of another format version, lacks an array, or its arrays disagree in size;
        the message names the file and the array.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: convert a model with sheap convert ict (or flame)")
    arrays = read_npz(path, way_out="convert the model again")
    _update(path, arrays)
    _check_names(path, arrays)
    masks = {key: "number v" for key in arrays if key.startswith(_REGION)}
    check_arrays(path, arrays, _AXES | masks, way_out="convert the model again")
    _check_indices(path, arrays)
    regions = {
        key.removeprefix(_REGION): jnp.asarray(arrays.pop(key)) for key in list(arrays) if key.startswith(_REGION)
    }
    static = {
        "parents": tuple(arrays.pop("parents").tolist()),
        "joint_names": tuple(arrays.pop("joint_names").tolist()),
        "expression_names": tuple(arrays.pop("expression_names").tolist()),
        "name": str(arrays.pop("name")),
        "joints_follow_expression": bool(arrays.pop("joints_follow_expression")),
    }
    model = MorphableModel(**{key: jnp.asarray(array) for key, array in arrays.items()}, regions=regions, **static)
    _check_sizes(path, model)
    return model


def _check_names(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """ValueError if an array is missing, or is none of a model."""
    known = [field.name for field in dataclasses.fields(MorphableModel) if field.name != "regions"]
    missing = [name for name in known if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: convert the model again")
    unknown = [key for key in arrays if key not in known and not key.startswith(_REGION)]
    if unknown:
        raise ValueError(f"{path} holds {', '.join(unknown[:4])}, which no model has: convert the model again")


def _check_indices(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """ValueError if a face, landmark or joint names what is not there."""
    limits = {
        "faces": len(arrays["template"]),
        "uv_faces": len(arrays["uv"]),
        "landmark_faces": len(arrays["faces"]),
        "contour_faces": len(arrays["faces"]),
        "parents": len(arrays["parents"]),
    }
    for name, limit in limits.items():
        least = -1 if name == "parents" else 0
        if arrays[name].size and not least <= arrays[name].min() <= arrays[name].max() < limit:
            raise ValueError(f"{path}: {name} names what is not among {limit}: convert the model again")


def _update(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Bring the arrays of an older file to today's format, or raise ValueError."""
    version = arrays.pop("format_version", None)
    if version is None or version.shape != () or version.dtype.kind not in "iu" or version not in (1, FORMAT_VERSION):
        raise ValueError(f"{path} is no morphable model of format {FORMAT_VERSION}: convert the model again")
    if int(version) == 1:
        if str(arrays.get("name")) == "flame":
            raise ValueError(
                f"{path} was converted before FLAME's joints followed the expression, and gives other vertices than "
                "FLAME: convert it again with sheap convert flame"
            )
        arrays["joints_follow_expression"] = np.array(False)


def _check_sizes(path: Path, model: MorphableModel) -> None:
    vertices, joints = model.template.shape[0], len(model.parents)
    expected = {
        "identity_basis": (model.identity_basis.shape[0], vertices, 3),
        "expression_basis": (len(model.expression_names), vertices, 3),
        "pose_basis": (model.pose_basis.shape[0], vertices, 3),
        "joint_regressor": (joints, vertices),
        "skinning_weights": (vertices, joints),
        "uv_faces": model.faces.shape if len(model.uv) else (0, 3),
    }
    found = {name: getattr(model, name).shape for name in expected}
    for name, mask in model.regions.items():
        expected[_REGION + name], found[_REGION + name] = (vertices,), mask.shape
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{path}: {name} has shape {found[name]}, expected {shape}: convert the model again")
