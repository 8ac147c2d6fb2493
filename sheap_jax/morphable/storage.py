"""Save and load any `MorphableModel` as one `.npz` file, without pickle."""

import dataclasses
import json
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sheap_jax.morphable.model import MorphableModel

_FORMAT = "sheap-morphable-1"
_STATIC = ("parents", "joint_names", "expression_names", "name")  # kept as JSON in one string
_ARRAYS = tuple(f.name for f in dataclasses.fields(MorphableModel) if f.name not in (*_STATIC, "regions"))


def save_model(model: MorphableModel, path: str | Path) -> None:
    """Write the model to `path` (`.npz`, compressed). The file appears whole or not at all.

    Raises:
        ValueError: if the name does not end in `.npz`.
    """
    path = _checked(path)
    arrays = {name: np.asarray(getattr(model, name)) for name in _ARRAYS}
    regions = {f"regions/{name}": np.asarray(mask) for name, mask in model.regions.items()}
    description = json.dumps({"format": _FORMAT, **{name: getattr(model, name) for name in _STATIC}})
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, description=np.array(description), **arrays, **regions)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | Path) -> MorphableModel:
    """Read a model written by `save_model`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or of another format, lacks an array, or its arrays disagree in size; the
            message names the file and the array.
    """
    path = _checked(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such morphable model file")
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error}); write it again with save_model") from error
    for key in ("description", *_ARRAYS):
        if key not in stored:
            raise ValueError(f"{path}: key {key!r} is missing; write the model again with save_model")
    description = _description(path, str(stored["description"]))
    model = MorphableModel(
        **{name: jnp.asarray(stored[name]) for name in _ARRAYS},
        regions={key.removeprefix("regions/"): jnp.asarray(value) for key, value in stored.items() if "/" in key},
        parents=tuple(description["parents"]),
        joint_names=tuple(description["joint_names"]),
        expression_names=tuple(description["expression_names"]),
        name=description["name"],
    )
    _check_sizes(path, model)
    return model


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: a morphable model is stored as .npz, choose a name that ends so")
    return path


def _description(path: Path, text: str) -> dict:
    try:
        description = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: key 'description' is not JSON ({error})") from error
    if description.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {description.get('format')!r}, this version reads {_FORMAT!r}")
    for key in _STATIC:
        if key not in description:
            raise ValueError(f"{path}: key {key!r} is missing in 'description'")
    return description


def _check_sizes(path: Path, model: MorphableModel) -> None:
    vertices, joints = model.template.shape[0], len(model.parents)
    expected = {
        "identity_basis": (model.identity_basis.shape[0], vertices, 3),
        "expression_basis": (len(model.expression_names), vertices, 3),
        "pose_basis": (model.pose_basis.shape[0], vertices, 3),
        "joint_regressor": (joints, vertices),
        "skinning_weights": (vertices, joints),
        "uv_faces": model.faces.shape,
    }
    for name, shape in expected.items():
        if getattr(model, name).shape != shape:
            raise ValueError(f"{path}: array {name!r} has shape {getattr(model, name).shape}, expected {shape}")
    for name, mask in model.regions.items():
        if mask.shape != (vertices,):
            raise ValueError(f"{path}: array 'regions/{name}' has shape {mask.shape}, expected {(vertices,)}")
    if int(model.faces.min()) < 0 or int(model.faces.max()) >= vertices:
        raise ValueError(f"{path}: array 'faces' points outside of the {vertices} vertices")
