"""From a network to an official submission: a neutral mesh and seven landmarks for every photograph.

    <subject>/<challenge>/<image>.obj    no expression, no pose
    <subject>/<challenge>/<image>.npy    [7, 3]

Both in the morphable model's unit, metres.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from sheap_jax.cropping import CropBox, crop_image
from sheap_jax.data.photographs import read_photograph
from sheap_jax.evaluation.now.layout import Missing, NowFolder, NowImage
from sheap_jax.evaluation.predictions import NetworkUnderTest, neutral, pose_heads
from sheap_jax.files.array_files import load_npy
from sheap_jax.files.mesh_files import write_obj
from sheap_jax.files.whole_file import whole_file

ENLARGEMENT = 1.8  # of the given box, as the paper's authors crop NoW
LONGEST_SIDE = 512  # pixels of the crop before it is scaled to the network's input
BATCH_SIZE = 32


class NowBox(NamedTuple):
    """Pixels of the photograph, y down."""

    left: float
    right: float
    top: float
    bottom: float


def read_box(path: str | Path) -> NowBox:
    """The detected face of a photograph, from NoW's pickled dictionaries, which are read without running them.

    Raises FileNotFoundError; ValueError if the file is damaged or the box is empty.
    """
    found = load_npy(path)
    try:
        box = NowBox(*(float(found[side]) for side in NowBox._fields))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is no box with left, right, top and bottom: {error!r}") from error
    if not np.isfinite(box).all() or box.right <= box.left or box.bottom <= box.top:
        raise ValueError(f"{path}: the box {box} is empty")
    return box


def crop_face(image: UInt8[np.ndarray, "h w 3"], box: NowBox, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The network's input: the enlarged box within the photograph, padded with black to a square.

    Like the authors' evaluation: a box that reaches beyond the top or the left edge is moved in before its other
    end is cut off, and the crop passes through 512 pixels.

    Raises ValueError if the box lies outside the photograph.
    """
    import cv2

    height, width = image.shape[:2]
    left, right = _enlarged(box.left, box.right, width)
    top, bottom = _enlarged(box.top, box.bottom, height)
    region = image[top:bottom, left:right]
    if not region.size:
        raise ValueError(f"the box {box} lies outside the photograph of {width} x {height} pixels")
    half = np.array(max(region.shape[:2]) / 2)
    square = crop_image(region, CropBox(np.array(region.shape[1::-1]) / 2, half), LONGEST_SIDE)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def _enlarged(low: float, high: float, limit: int) -> tuple[int, int]:
    """One axis of the box, ENLARGEMENT times as long, within 0 and `limit`."""
    length = int(high) - int(low)
    start = max(0, int(low) - int(length * (ENLARGEMENT - 1) / 2))
    return start, min(limit, start + int(length * ENLARGEMENT))


def predict_now(
    predictor: NetworkUnderTest,
    folder: NowFolder,
    output: str | Path,
    *,
    image_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Missing]:
    """Write the submission for all images of the folder's list; returns those whose photograph or box is unusable."""
    output, missing = Path(output), []
    starts = range(0, len(folder.images), BATCH_SIZE)
    for start in progress(starts):
        crops, images = [], []
        for image in folder.images[start : start + BATCH_SIZE]:
            try:
                crops.append(_load_crop(folder, image, image_size))
                images.append(image)
            except (OSError, ValueError) as error:
                missing.append(Missing(image, f"no prediction: {error}"))
        if images:
            _write_batch(predictor, output, images, np.stack(crops))
    return missing


def _load_crop(folder: NowFolder, image: NowImage, size: int) -> UInt8[np.ndarray, "size size 3"]:
    return crop_face(read_photograph(folder.photograph(image)), read_box(folder.box(image)), size)


def _write_batch(
    predictor: NetworkUnderTest, output: Path, images: list[NowImage], crops: UInt8[np.ndarray, "n size size 3"]
) -> None:
    params = predictor(jnp.asarray(crops, jnp.float32) / 255.0)
    heads = pose_heads(predictor.model, neutral(predictor.model, params)).meshes()
    faces = np.asarray(predictor.model.faces)
    for image, head in zip(images, heads, strict=True):
        path = output / image.stem
        # Not with_suffix: a dot in the image's name is no suffix.
        write_obj(f"{path}.obj", head.vertices, faces)
        with whole_file(f"{path}.npy", durable=False) as temporary:
            np.save(temporary, head.landmarks.astype(np.float64))
