"""FLAME's landmark files as the 68 landmarks of iBUG and the jaw line that slides with yaw.

Four files are in use. DECA's landmark_embedding.npy (also with two more points for the eyes) and RingNet's pair
flame_static_embedding.pkl (51 points) and flame_dynamic_embedding.npy have the same points. SHeaP's
flame_landmark_idxs_barys.pt has 68 others, as face-alignment predicts them in 3D, and no jaw line that slides.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sheap_jax.morphable.flame_files import NAMES, read_content, unexpected
from sheap_jax.morphable.model import CONTOUR_LANDMARKS, SurfacePoints

NUM_LANDMARKS = 68
INNER_LANDMARKS = NUM_LANDMARKS - CONTOUR_LANDMARKS  # without the jaw line
_PAIR = {"lmk_face_idx", "lmk_b_coords"}  # keys of both of RingNet's files
CONTOUR_ROWS = 79  # by whole degrees of yaw, see `contour_row`


class FlameLandmarks(NamedTuple):
    """`landmark_*` and `contour_*` of a MorphableModel; the contour may have no rows."""

    fixed: SurfacePoints  # [68]
    contour: SurfacePoints  # [r, 17]


def read_landmarks(path: Path, num_faces: int, *, contour: Path | None = None) -> FlameLandmarks:
    """The 68 fixed landmarks, and the jaw line's rows of the same file or of `contour`.

    The rows count yaw as `contour_row` does. In rows 1-39 the subject's left cheek turns away, and its points slide.

    Raises:
      ValueError: a file is another one, belongs to another model, or a part is missing; names it.
    """
    content = read_content(path, "landmarks")
    if _is_dynamic(content):
        raise ValueError(
            f"{path} is {NAMES['contour']}: give it as --contour, and flame_static_embedding.pkl as --landmarks"
        )
    inner = _inner(path, content)
    if _has(content, "dynamic_lmk"):
        if contour is not None:
            raise ValueError(f"{path} has a jaw line of its own: leave {contour} (--contour) out")
        rows = _points(path, content, "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
    else:
        rows = _contour(contour)
    source = path if contour is None else contour
    if len(inner.faces) == INNER_LANDMARKS:
        if rows is None:
            raise ValueError(
                f"{path} holds the {INNER_LANDMARKS} inner landmarks; the {CONTOUR_LANDMARKS} of the jaw line "
                "are missing: give flame_dynamic_embedding.npy, which comes with it, as --contour"
            )
        _check(source, rows, (CONTOUR_ROWS, CONTOUR_LANDMARKS), num_faces)
        frontal = SurfacePoints(rows.faces[0], rows.barycentrics[0])
        inner = SurfacePoints(*(np.concatenate(pair) for pair in zip(frontal, inner, strict=True)))
    if rows is None:
        rows = SurfacePoints(np.zeros((0, CONTOUR_LANDMARKS), np.int64), np.zeros((0, CONTOUR_LANDMARKS, 3)))
    else:
        _check(source, rows, (CONTOUR_ROWS, CONTOUR_LANDMARKS), num_faces)
    _check(path, inner, (NUM_LANDMARKS,), num_faces)
    return FlameLandmarks(inner, rows)


def _inner(path: Path, content: Any) -> SurfacePoints:
    """The fixed landmarks of a file, 68 or the 51 without jaw line; points of eyes after them are left out."""
    if _has(content, "full_lmk"):
        return _flat(_points(path, content, "full_lmk_faces_idx", "full_lmk_bary_coords"), NUM_LANDMARKS)
    if _has(content, "static_lmk"):
        return _flat(_points(path, content, "static_lmk_faces_idx", "static_lmk_bary_coords"), INNER_LANDMARKS)
    if isinstance(content, (tuple, list)) and len(content) == 2:
        return _flat(_points(path, dict(zip("fb", content, strict=True)), "f", "b"), NUM_LANDMARKS)
    if isinstance(content, dict) and set(content) >= _PAIR and "landmark_indices" not in content:
        points = _points(path, content, "lmk_face_idx", "lmk_b_coords")
        if points.faces.size in (INNER_LANDMARKS, NUM_LANDMARKS):
            return _flat(points, NUM_LANDMARKS)
    raise unexpected(path, content, "landmarks")


def _contour(path: Path | None) -> SurfacePoints | None:
    if path is None:
        return None
    content = read_content(path, "contour")
    if _is_dynamic(content):
        return _points(path, content, "lmk_face_idx", "lmk_b_coords")
    raise unexpected(path, content, "contour")


def _is_dynamic(content: Any) -> bool:
    """Whether it is FLAME's own jaw line: a list of rows, under the same names as its static embedding."""
    if not isinstance(content, dict) or not set(content) >= _PAIR:
        return False
    rows = content["lmk_face_idx"]
    return isinstance(rows, (list, tuple, np.ndarray)) and np.shape(rows[:1])[1:] != ()


def _has(content: Any, part: str) -> bool:
    return isinstance(content, dict) and {f"{part}_faces_idx", f"{part}_bary_coords"} <= set(content)


def _points(path: Path, content: dict[str, Any], faces: str, barycentrics: str) -> SurfacePoints:
    try:
        indices, weights = np.asarray(content[faces]), np.asarray(content[barycentrics])
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{path}: its landmarks are no table ({error})") from error
    if indices.dtype.kind not in "iu" or weights.dtype.kind != "f" or weights.shape != (*indices.shape, 3):
        raise ValueError(
            f"{path}: face indices {indices.dtype} {indices.shape} and barycentric coordinates {weights.dtype} "
            f"{weights.shape}, expected integers of some shape and three fractions for each"
        )
    return SurfacePoints(indices.astype(np.int64), weights)


def _flat(points: SurfacePoints, count: int) -> SurfacePoints:
    return SurfacePoints(points.faces.reshape(-1)[:count], points.barycentrics.reshape(-1, 3)[:count])


def _check(path: Path, points: SurfacePoints, shape: tuple[int, ...], num_faces: int) -> None:
    if points.faces.shape != shape:
        raise ValueError(f"{path}: {points.faces.shape} points, expected {shape}")
    if points.faces.min() < 0 or points.faces.max() >= num_faces:
        raise ValueError(
            f"{path} names face {points.faces.max()}, the model has {num_faces}: the landmarks belong to another model"
        )
    if not np.allclose(points.barycentrics.sum(axis=-1), 1.0, atol=1e-3):
        raise ValueError(f"{path}: barycentric coordinates do not sum to 1")
