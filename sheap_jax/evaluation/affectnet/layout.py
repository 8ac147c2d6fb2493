"""AffectNet's folder, in either of its releases.

    train_set/ and val_set/     images/<id>.jpg and annotations/<id>_exp.npy, _val.npy, _aro.npy, _lnd.npy
    training.csv and validation.csv with Manually_Annotated_Images/<path>
                                columns subDirectory_filePath, facial_landmarks, expression, valence, arousal

Both have 68 landmarks in pixels of the image: x1, y1, x2, y2 ... , in the tables with semicolons between.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.array_files import read_npy
from sheap_jax.files.tables import read_table

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")  # 0-7; others are dropped
NO_VALUE = -2.0  # valence or arousal that nobody gave
FOLDERS = {"train": "train_set", "validation": "val_set"}
TABLES = {"train": "training.csv", "validation": "validation.csv"}
COLUMNS = ("subDirectory_filePath", "facial_landmarks", "expression", "valence", "arousal")
IMAGES = "Manually_Annotated_Images"


class Labels(NamedTuple):
    """What people said about N images."""

    expression: Int[np.ndarray, "n"]  # index into CLASSES
    valence: Float[np.ndarray, "n"]  # -1 to 1
    arousal: Float[np.ndarray, "n"]

    def take(self, places: np.ndarray) -> "Labels":
        return Labels(*(values[places] for values in self))


class Images(NamedTuple):
    """Annotated images of one split."""

    paths: list[Path]
    landmarks: Float[np.ndarray, "n 68 2"]
    labels: Labels


class _Row(NamedTuple):
    path: Path
    landmarks: Float[np.ndarray, "68 2"]
    expression: int
    valence: float
    arousal: float


def load_split(directory: str | Path, split: str) -> Images:
    """Images of "train" or "validation" with one of the eight emotions and both values; the others are left out.

    Raises FileNotFoundError if neither release is there; ValueError for a damaged annotation or an empty split.
    """
    directory = Path(directory)
    folder, table = directory / FOLDERS[split], directory / TABLES[split]
    if folder.is_dir():
        rows = _rows_of_folder(folder)
    elif table.exists():
        rows = _rows_of_table(table, directory / IMAGES)
    else:
        raise FileNotFoundError(f"neither {folder} nor {table} is there: {directory} should be AffectNet's folder")
    kept = [row for row in rows if row.expression in range(len(CLASSES)) and NO_VALUE not in (row.valence, row.arousal)]
    if not kept:
        raise ValueError(f"split {split!r} of {directory} holds no image with an emotion, valence and arousal")
    labels = Labels(
        np.array([row.expression for row in kept]),
        np.array([row.valence for row in kept]),
        np.array([row.arousal for row in kept]),
    )
    return Images([row.path for row in kept], np.stack([row.landmarks for row in kept]), labels)


def _rows_of_folder(folder: Path) -> Iterator[_Row]:
    for path in sorted((folder / "images").glob("*.jpg")):
        stem = folder / "annotations" / path.stem
        values = {}
        for name in ("exp", "val", "aro", "lnd"):
            file = Path(f"{stem}_{name}.npy")
            try:
                values[name] = read_npy(file).astype(np.float64)  # some are text
            except ValueError as error:
                raise ValueError(f"{file} cannot be read ({error}): damaged?") from error
        yield _row(path, values["lnd"].ravel(), values["exp"].item(), values["val"].item(), values["aro"].item())


def _rows_of_table(table: Path, images: Path) -> Iterator[_Row]:
    for row in read_table(table, columns=[name.lower() for name in COLUMNS]):
        try:
            points = np.array(row.cells["facial_landmarks"].split(";"), np.float64)
            expression, valence, arousal = (row.number(name) for name in ("expression", "valence", "arousal"))
        except ValueError as error:
            raise ValueError(f"{table}, line {row.line}: {error}") from error
        yield _row(images / row.cells["subdirectory_filepath"], points, expression, valence, arousal)


def _row(path: Path, points: Float[np.ndarray, "136"], expression: float, valence: float, arousal: float) -> _Row:
    if points.shape != (136,):
        raise ValueError(f"the annotation of {path} has {points.size} landmark coordinates, it should have 136")
    return _Row(path, points.reshape(68, 2), int(expression), valence, arousal)
