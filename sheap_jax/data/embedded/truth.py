"""Ground truth beside a split, which no real data set has: `truth-{split}.npz`."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from sheap_jax.files.array_files import read_npz

LANDMARKS_7 = (36, 39, 42, 45, 33, 48, 54)  # of the 68: eye corners, base of the nose, mouth corners (NoW order)


class Truth(NamedTuple):
    """Geometry behind the N records (in record order) of I identities. Lengths in metres."""

    faces: Int32[np.ndarray, "f 3"]
    neutral: Float32[np.ndarray, "i v 3"]  # head space, no expression, no pose
    posed: Float32[np.ndarray, "n v 3"]  # world space of the official camera
    identity_index: Int32[np.ndarray, "n"]
    face_mask: Bool[np.ndarray, "v"]  # the part of the head that face benchmarks score
    landmarks7_neutral: Float32[np.ndarray, "i 7 3"]
    landmarks7_posed: Float32[np.ndarray, "n 7 3"]
    landmarks2d: Float32[np.ndarray, "n 68 2"]  # pixels, without the detector's noise


def truth_path(directory: str | os.PathLike[str], split: str) -> Path:
    return Path(directory) / f"truth-{split}.npz"


def load_truth(directory: str | os.PathLike[str], split: str) -> Truth:
    """Read the ground truth of a split.

    Raises:
      FileNotFoundError: the split has none; names the setting that makes it.
      ValueError: a field is missing.
    """
    path = truth_path(directory, split)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no ground truth; generate with {split!r} in EmbeddedData.truth_splits")
    data = read_npz(path, Truth._fields, way_out="generate the data set again")
    missing = set(Truth._fields) - set(data)
    if missing:
        raise ValueError(f"{path} lacks {sorted(missing)}: generate the data set again")
    return Truth(**data)


def save_truth(directory: Path, split: str, truth: Truth) -> None:
    np.savez(truth_path(directory, split), allow_pickle=False, **truth._asdict())
