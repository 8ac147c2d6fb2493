"""Parts of FLAME that come in files of their own: the uv layout, the eyelid shapes, the regions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.mesh_files import NO_UV, TextureChart, parse_obj
from sheap_jax.files.regular import open_regular, read_whole
from sheap_jax.morphable.flame_files import NAMES, read_content, unexpected

EYELID_NAMES = ("eyelid_right", "eyelid_left")  # channels of eyelids.pt
_REGION_NAMES = {"left_eyeball": "left_eye", "right_eyeball": "right_eye"}  # as in our other models


def read_uv(path: Path | None, faces: Int[np.ndarray, "f 3"]) -> TextureChart:
    """The texture coordinates of `head_template.obj`, or of the texture space as .npz; none without a file.

    The template's positions are not used: they are another pose and place.

    Raises:
      ValueError: the file is another one, has no texture coordinates, or belongs to another model; names it.
    """
    if path is None:
        return TextureChart(np.zeros((0, 2)), np.zeros((0, 3), np.int64))
    with open_regular(path) as stream:
        binary = b"\0" in stream.read(4096)
    chart = _read_space(path, faces) if binary else _read_template(path, faces)
    if not np.isfinite(chart.uv).all():
        raise ValueError(f"{path}: texture coordinates are not finite")
    return chart


def _read_space(path: Path, faces: Int[np.ndarray, "f 3"]) -> TextureChart:
    """FLAME's texture space: `vt`, and `ft` in the order of the model's faces."""
    content = read_content(path, "template")
    if not isinstance(content, dict) or not {"vt", "ft"} <= set(content):
        raise unexpected(path, content, "template")
    uv, corners = np.asarray(content["vt"]), np.asarray(content["ft"])
    fits = uv.dtype.kind == "f" and uv.shape[1:] == (2,) and corners.dtype.kind in "iu" and corners.shape == faces.shape
    if not fits or corners.min() < 0 or corners.max() >= len(uv):
        raise ValueError(f"{path}: vt {uv.shape} and ft {corners.shape} do not fit the model's {len(faces)} faces")
    return TextureChart(uv, corners.astype(np.int64))


def _read_template(path: Path, faces: Int[np.ndarray, "f 3"]) -> TextureChart:
    try:
        mesh = parse_obj(read_whole(path).decode("utf-8", errors="replace"), with_uv=True)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    if not mesh.polygons:
        kind = foreign_kind(path)
        what = kind if kind != "an OBJ mesh" else "an OBJ mesh without faces"
        raise ValueError(f"{path} is {what or 'no OBJ mesh'}; expected {NAMES['template']}")
    if not len(mesh.uv) or any(NO_UV in corners for corners in mesh.uv_polygons):
        raise ValueError(
            f"{path} is an OBJ mesh without texture coordinates (vt); expected {NAMES['template']}; without --template "
            "the model is converted without them"
        )
    if any(len(corners) != 3 for corners in mesh.polygons):
        raise ValueError(f"{path} has faces with more than three corners, FLAME's are triangles")
    table = np.stack([mesh.polygons, mesh.uv_polygons], axis=-1)
    if table[..., 1].max() >= len(mesh.uv):
        raise ValueError(f"{path} names texture coordinate {table[..., 1].max() + 1}, it has {len(mesh.uv)}")
    return TextureChart(mesh.uv, _match_faces(path, table, faces))


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
    """Region masks from `FLAME_masks.pkl`. Without the file there is one region, `face`, which holds every vertex."""
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
