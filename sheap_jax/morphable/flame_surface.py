"""What belongs to FLAME's surface and comes in files of its own: the uv layout, the eyelid shapes, the regions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.morphable.flame_files import NAMES, read_content, unexpected

EYELID_NAMES = ("eyelid_right", "eyelid_left")  # channels of eyelids.pt
_REGION_NAMES = {"left_eyeball": "left_eye", "right_eyeball": "right_eye"}  # as in our other models


class UvLayout(NamedTuple):
    """`uv` and `uv_faces` of a MorphableModel."""

    uv: Float[np.ndarray, "u 2"]
    faces: Int[np.ndarray, "f 3"]


def read_uv(path: Path | None, faces: Int[np.ndarray, "f 3"]) -> UvLayout:
    """The texture coordinates of `head_template.obj`, or of the texture space as .npz; none without a file.

    The template's positions are not used: they are another pose and place.

    Raises:
      ValueError: the file is another one, has no texture coordinates, or belongs to another model; names it.
    """
    if path is None:
        return UvLayout(np.zeros((0, 2)), np.zeros((0, 3), np.int64))
    with open(path, "rb") as stream:
        binary = b"\0" in stream.read(4096)
    layout = _read_space(path, faces) if binary else _read_obj(path, faces)
    if not np.isfinite(layout.uv).all():
        raise ValueError(f"{path}: texture coordinates are not finite")
    return layout


def _read_space(path: Path, faces: Int[np.ndarray, "f 3"]) -> UvLayout:
    """FLAME's texture space: `vt`, and `ft` in the order of the model's faces."""
    content = read_content(path, "template")
    if not isinstance(content, dict) or not {"vt", "ft"} <= set(content):
        raise unexpected(path, content, "template")
    uv, corners = np.asarray(content["vt"]), np.asarray(content["ft"])
    fits = uv.dtype.kind == "f" and uv.shape[1:] == (2,) and corners.dtype.kind in "iu" and corners.shape == faces.shape
    if not fits or corners.min() < 0 or corners.max() >= len(uv):
        raise ValueError(f"{path}: vt {uv.shape} and ft {corners.shape} do not fit the model's {len(faces)} faces")
    return UvLayout(uv, corners.astype(np.int64))


def _read_obj(path: Path, faces: Int[np.ndarray, "f 3"]) -> UvLayout:
    uv, corners = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split()
        try:
            if fields[:1] == ["vt"]:
                u, v = fields[1:3]
                uv.append([float(u), float(v)])
            elif fields[:1] == ["f"]:
                corners.append([[int(text or 0) for text in (corner + "/").split("/")[:2]] for corner in fields[1:]])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is no line of an OBJ mesh") from error
    if not corners:
        kind = foreign_kind(path)
        what = kind if kind != "an OBJ mesh" else "an OBJ mesh without faces"
        raise ValueError(f"{path} is {what or 'no OBJ mesh'}; expected {NAMES['template']}")
    if not uv or any(corner[1] == 0 for face in corners for corner in face):
        raise ValueError(
            f"{path} is an OBJ mesh without texture coordinates (vt); expected {NAMES['template']}; without --template "
            "the model is converted without them"
        )
    if any(len(face) != 3 for face in corners):
        raise ValueError(f"{path} has faces with more than three corners, FLAME's are triangles")
    table = np.asarray(corners)
    table = np.where(table < 0, table + np.array([int(faces.max()) + 1, len(uv)]), table - 1)  # negative: from the end
    if table[..., 1].min() < 0 or table[..., 1].max() >= len(uv):
        raise ValueError(f"{path} names texture coordinate {table[..., 1].max() + 1}, it has {len(uv)}")
    return UvLayout(np.asarray(uv), _match_faces(path, table, faces))


def _match_faces(path: Path, table: Int[np.ndarray, "g 3 2"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "f 3"]:
    """uv corners in the order of the model's own faces, whatever the file's order of faces and corners."""
    own, other = np.argsort(faces, axis=1), np.argsort(table[..., 0], axis=1)
    own_sorted = np.take_along_axis(faces, own, axis=1)
    other_sorted = np.take_along_axis(table, other[..., None], axis=1)  # [g, 3, 2], vertices ascending
    own_order, other_order = np.lexsort(own_sorted.T), np.lexsort(other_sorted[..., 0].T)
    if not np.array_equal(own_sorted[own_order], other_sorted[other_order][..., 0]):
        raise ValueError(
            f"{path} has {len(table)} triangles, other ones than the model's {len(faces)}; expected {NAMES['template']}"
        )
    uv_faces = np.empty_like(faces)
    matched = np.empty_like(faces)
    matched[own_order] = other_sorted[other_order][..., 1]
    np.put_along_axis(uv_faces, own, matched, axis=1)
    return uv_faces


def read_eyelids(paths: Sequence[Path], template: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "2 v 3"]:
    """The right and the left eyelid's offsets: eyelids.pt, or two files of one eyelid each in any order.

    They are added before posing like expressions.
    """
    if len(paths) > 2:
        raise ValueError(f"{paths[2]} is a third file of eyelids; expected {NAMES['eyelids']}")
    contents = [read_content(path, "eyelids") for path in paths]
    shape = (len(template), 3, 2) if len(paths) == 1 else (len(template), 3)
    for path, offsets in zip(paths, contents, strict=True):
        if not isinstance(offsets, np.ndarray) or offsets.dtype.kind != "f":
            raise unexpected(path, offsets, "eyelids")
        if len(paths) == 1 and offsets.shape == (len(template), 3):
            raise ValueError(f"{path} holds one eyelid: give the file of the other as a second --eyelids")
        if offsets.shape != shape:
            raise ValueError(f"{path} holds {offsets.shape}, expected {shape}: {NAMES['eyelids']}")
    if len(paths) == 1:
        return np.moveaxis(contents[0], -1, 0)
    first, second = contents if _side(contents[0], template) < _side(contents[1], template) else contents[::-1]
    return np.stack([first, second])


def _side(offsets: Float[np.ndarray, "v 3"], template: Float[np.ndarray, "v 3"]) -> float:
    """Where an eyelid lies: x of what it moves, negative on the subject's right."""
    return float(np.linalg.norm(offsets, axis=1) @ template[:, 0])


def read_regions(path: Path | None, num_vertices: int) -> dict[str, Float[np.ndarray, "v"]]:
    """Region masks from `FLAME_masks.pkl`; without it only `face`, on everything, since none can be told apart."""
    if path is None:
        return {"face": np.ones(num_vertices)}
    content = read_content(path, "masks")
    if not isinstance(content, dict) or "face" not in content:
        raise unexpected(path, content, "masks")
    regions = {}
    for name, vertices in content.items():
        indices = _flat(vertices)
        if indices.dtype.kind not in "iu" or (indices.size and not 0 <= indices.min() <= indices.max() < num_vertices):
            raise ValueError(f"{path}: the region {name} does not list some of the model's {num_vertices} vertices")
        mask = np.zeros(num_vertices)
        mask[indices] = 1.0
        regions[_REGION_NAMES.get(str(name), str(name))] = mask
    return regions


def _flat(vertices: Any) -> np.ndarray:
    try:
        return np.asarray(vertices).reshape(-1)
    except ValueError:  # lists of different lengths
        return np.asarray([None])
