"""FLAME's head model as arrays, from any of its files; and what a wrong file is, for the error message."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.array_files import load_any
from sheap_jax.files.safe_pickle import UnsafePickleError, outline

VERTICES, FACES = 5023, 9976
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
COMPONENTS, EXPRESSIONS = 400, 100  # of shapedirs in every release: 300 of identity, then 100 of expression
NAMES = {  # what each file is
    "model": "FLAME's head model (generic_model.pkl, flame2023.pkl, flame2023_no_jaw.pkl, flame2023_Open.pkl)",
    "landmarks": "the landmarks (landmark_embedding.npy, flame_static_embedding.pkl with --contour, or "
    "flame_landmark_idxs_barys.pt)",
    "contour": "the sliding jaw line (flame_dynamic_embedding.npy)",
    "template": "the uv layout (head_template.obj or FLAME_texture.npz)",
    "eyelids": "two eyelid shapes (eyelids.pt, or r_eyelid.npy and l_eyelid.npy)",
    "masks": "the vertex regions (FLAME_masks.pkl)",
}
_SOURCES = {  # where each file comes from, and its licence
    "model": "flame.is.tue.mpg.de after registration, 2023 Open under CC BY 4.0, the others non-commercial",
    "landmarks": "the data of DECA (github.com/yfeng95/DECA), non-commercial research, flame_model/ of RingNet "
    "(github.com/soubhiksanyal/RingNet), MIT, or SHeaP (github.com/nlml/SHeaP), CC BY-NC",
    "contour": "flame_model/ of RingNet (github.com/soubhiksanyal/RingNet), MIT",
    "template": "the data of DECA (github.com/yfeng95/DECA) or flame.is.tue.mpg.de, non-commercial research",
    "eyelids": "the SHeaP release (github.com/nlml/SHeaP), CC BY-NC, or metrical-tracker, non-commercial research",
    "masks": "flame.is.tue.mpg.de after registration, FLAME's licence",
}
_KEYS = {  # names of the arrays in FLAME's files, and in the .pt that SHeaP makes of them
    "v_template": ("v_template",),
    "f": ("f", "faces"),
    "shapedirs": ("shapedirs",),
    "posedirs": ("posedirs",),
    "J_regressor": ("J_regressor",),
    "weights": ("weights",),
    "kintree_table": ("kintree_table", "kintree"),
}
_BODIES = {16: "MANO", 24: "SMPL", 52: "SMPL+H", 55: "SMPL-X"}  # by joints
_METADATA = "supr_expression_metadata"  # of 2023 Open


class FlameArrays(NamedTuple):
    """The model's arrays, their sizes checked against one another."""

    template: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    shapes: Float[np.ndarray, "k v 3"]  # identity, then expression
    num_identity: int
    pose: Float[np.ndarray, "36 v 3"]
    regressor: Float[np.ndarray, "5 v"]
    weights: Float[np.ndarray, "v 5"]
    parents: tuple[int, ...]


def check_presence(paths: Iterable[tuple[str, Path | None]]) -> None:
    """Raise FileNotFoundError that lists the missing files, each with its source and licence."""
    given = [(kind, path) for kind, path in paths if path is not None]
    missing = [f"  {path} does not exist: {describe(kind)}" for kind, path in given if not path.exists()]
    if missing:
        raise FileNotFoundError("files of FLAME are missing, fetch them from their owners:\n" + "\n".join(missing))
    for kind, path in given:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; expected {NAMES[kind]}")


def describe(kind: str) -> str:
    """What a file is, with its source and licence."""
    return f"{NAMES[kind]}, from {_SOURCES[kind]}"


def read_model(path: Path, *, num_identity: int | None = None, any_size: bool = False) -> FlameArrays:
    """The arrays of FLAME's head model.

    Args:
      num_identity: how many of shapedirs are identity; None: as the file says, else 300 of 400.
      any_size: take another mesh than FLAME's 5023 vertices and 9976 faces (cropped, subdivided).

    Raises:
      ValueError: the file is another one, or its arrays do not fit; names it.
    """
    content = read_content(path, "model")
    if not isinstance(content, dict) or "v_template" not in content or _body(content):
        raise unexpected(path, content, "model")
    arrays = {key: _array(path, content, key) for key in _KEYS}
    _check_sizes(path, arrays, any_size=any_size)
    shapes = np.moveaxis(arrays["shapedirs"], -1, 0)
    return FlameArrays(
        template=arrays["v_template"],
        faces=arrays["f"].astype(np.int64),
        shapes=shapes,
        num_identity=_split(path, content, len(shapes), num_identity),
        pose=np.moveaxis(arrays["posedirs"], -1, 0),
        regressor=arrays["J_regressor"],
        weights=arrays["weights"],
        parents=_parents(path, arrays["kintree_table"]),
    )


def _array(path: Path, content: dict[str, Any], key: str) -> np.ndarray:
    found = [name for name in _KEYS[key] if name in content]
    if not found:
        missing = [name for name, others in _KEYS.items() if not set(others) & set(content)]
        raise ValueError(f"{path} is no whole FLAME model: it lacks {', '.join(missing)}")
    array = np.asarray(content[found[0]])
    if array.dtype == object and array.ndim > 1 and all(type(number) in (int, float) for number in array.flat):
        array = array.astype(np.float64)  # saved again from chumpy without its type
    if array.dtype.kind not in "fiu":
        kind = type(content[found[0]]).__name__ if array.dtype.hasobject else array.dtype
        raise ValueError(f"{path}: {found[0]} holds no numbers but {kind}; it must be an array")
    if array.ndim < 2 or not array.size:
        raise ValueError(f"{path}: {found[0]} has the shape {array.shape}; it must be a table")
    return array


def _check_sizes(path: Path, arrays: dict[str, np.ndarray], *, any_size: bool) -> None:
    count, faces = len(arrays["v_template"]), len(arrays["f"])
    if not any_size and (count, faces) != (VERTICES, FACES):
        raise ValueError(
            f"{path} has {count} vertices and {faces} faces, FLAME has {VERTICES} and {FACES}; if it is a cropped or "
            "subdivided FLAME, say --any-size"
        )
    joints = len(JOINT_NAMES)
    expected = {
        "v_template": (count, 3),
        "f": (faces, 3),
        "shapedirs": (count, 3, arrays["shapedirs"].shape[-1]),
        "posedirs": (count, 3, 9 * (joints - 1)),
        "J_regressor": (joints, count),
        "weights": (count, joints),
        "kintree_table": (2, joints),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise ValueError(f"{path}: {key} is {arrays[key].shape}, expected {shape}")
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"{path}: {key} holds numbers that are not finite")
    if arrays["f"].min() < 0 or arrays["f"].max() >= count:
        raise ValueError(f"{path}: a face names vertex {arrays['f'].max()}, there are {count}")


def _split(path: Path, content: dict[str, Any], components: int, wanted: int | None) -> int:
    """How many components are identity: as told, as the file says, or FLAME's 300 of 400."""
    metadata = content.get(_METADATA)
    said = metadata.get("n_expr") if isinstance(metadata, dict) else None
    said = said if isinstance(said, (int, np.integer)) else None
    if wanted is None and said is None and components != COMPONENTS:
        raise ValueError(
            f"{path}: shapedirs has {components} components instead of {COMPONENTS}: say with --identity-channels how "
            "many of them are identity, the rest is expression"
        )
    number = wanted if wanted is not None else components - int(EXPRESSIONS if said is None else said)
    if not 0 < number < components:
        raise ValueError(f"{path}: of {components} components {number} cannot be identity and the rest expression")
    return number


def _parents(path: Path, table: Int[np.ndarray, "2 j"]) -> tuple[int, ...]:
    """Each joint's parent, -1 for the root, which is stored as -1 or 2^32 - 1."""
    parents = tuple(-1 if not 0 <= int(parent) < len(JOINT_NAMES) else int(parent) for parent in table[0])
    if parents[0] != -1 or any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise ValueError(f"{path}: the parents of {', '.join(JOINT_NAMES)} are {parents}, expected (-1, 0, 1, 1, 1)")
    return parents


def read_content(path: Path, wanted: str) -> Any:
    """What is in a file, which should be of the kind `wanted`, a key of NAMES. Raises ValueError as `load_any`."""
    try:
        return load_any(path)
    except UnsafePickleError as error:
        content = outline(path)
        found = f". It is {what_is(content)}" if isinstance(content, dict) else ""
        raise ValueError(f"{error}{found}; expected {NAMES[wanted]}") from error


def unexpected(path: Path, content: Any, wanted: str) -> ValueError:
    """The error for a file that was read and is not of the kind `wanted`, a key of NAMES."""
    return ValueError(f"{path} is {what_is(content)}; expected {NAMES[wanted]}")


def what_is(content: Any) -> str:
    """What the content of a file is, in words: one of FLAME's files, or its keys or sizes."""
    if isinstance(content, np.ndarray):
        lids = " (eyelid shapes)" if content.shape[1:] in ((3,), (3, 2)) else ""
        return f"an array of shape {content.shape}{lids}"
    if isinstance(content, (tuple, list)):
        return f"a {type(content).__name__} of {len(content)} ({', '.join(_size(item) for item in content[:4])})"
    if not isinstance(content, dict):
        return f"a single {type(content).__name__}"
    body = _body(content)
    if body:
        return body
    for name, keys in _RECOGNIZED.items():
        if keys <= set(content):
            return name
    names = [str(key) for key in content]
    more = ", ..." if len(names) > 6 else ""
    return f"a table of {', '.join(names[:6])}{more}" if names else "an empty table"


def _body(content: dict[str, Any]) -> str | None:
    """Which other model of FLAME's family a table is, by its joints."""
    if not {"v_template", "kintree_table"} <= set(content):
        return None
    joints = np.shape(content["kintree_table"])[-1:]
    if joints and joints[0] in _BODIES:
        return f"{_BODIES[joints[0]]}'s model, with {joints[0]} joints instead of {len(JOINT_NAMES)}"
    return None


_RECOGNIZED = {  # what has these keys; the first that fits
    "a landmark embedding (landmark_embedding.npy)": {"static_lmk_faces_idx"},
    "the landmarks of MediaPipe (mediapipe_landmark_embedding.npz), which are not the 68 of iBUG": {"landmark_indices"},
    "a landmark embedding of FLAME (flame_static_embedding.pkl or flame_dynamic_embedding.npy)": {"lmk_face_idx"},
    "a model that is converted already (give it as --config.morphable)": {"format_version", "joint_regressor"},
    "Google's GNM head model": {"template_vertex_positions"},
    "a head or body model (v_template)": {"v_template"},
    "FLAME's vertex regions (FLAME_masks.pkl)": {"face", "scalp"},
    "a texture space of FLAME (FLAME_texture.npz)": {"vt", "ft"},
}


def _size(item: Any) -> str:
    return f"array {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
