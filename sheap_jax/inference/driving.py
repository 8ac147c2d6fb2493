"""What drives an avatar: head parameters from a file, or estimated from a video or a folder of pictures."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sheap_jax.data.prepare.clips import FrameReader, PrepareError, find_clips
from sheap_jax.inference.crops import square_crop
from sheap_jax.inference.predictor import Predictor
from sheap_jax.types import HeadParams

ESTIMATED_TOGETHER = 16  # frames: memory does not grow with the length of a video


class DrivingFrame(NamedTuple):
    params: HeadParams  # without batch axis
    image: Float[np.ndarray, "size size 3"] | None  # what the parameters were estimated from


def load_params(path: str | Path) -> list[DrivingFrame]:
    """Head parameters of N frames from an .npz with keys expression [N, e], rotations [N, j, 3], translation [N, 3].

    `shape` is not needed, since an avatar has its own; other keys are ignored. Raises FileNotFoundError; ValueError if
    a key is missing, the lengths differ or a number is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key].astype(np.float32) for key in HeadParams._fields if key in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and NumPy raise various errors on damaged files
        raise ValueError(f"{path} is damaged or no .npz: {error}") from error
    missing = {"expression", "rotations", "translation"} - arrays.keys()
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: it must hold the fields of HeadParams")
    arrays.setdefault("shape", np.zeros((len(arrays["expression"]), 0), np.float32))
    lengths = {key: len(values) for key, values in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{path}: the arrays have different lengths, {lengths}")
    for key, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {key} of frame {np.argwhere(~np.isfinite(values))[0, 0]} is not finite")
    return [DrivingFrame(HeadParams(*frame), None) for frame in zip(*map(arrays.get, HeadParams._fields), strict=True)]


def estimate_frames(predictor: Predictor, path: str | Path) -> Iterator[DrivingFrame]:
    """Head parameters of every frame of a video or of the pictures of a folder, in order.

    The frames must be framed as in training. Raises FileNotFoundError, or ValueError for what cannot be read.
    """
    clips = find_clips([Path(path)])
    if len(clips) > 1:
        raise ValueError(f"{path} holds {len(clips)} clips, a driving video is one: {clips[0].path}, {clips[1].path}")
    crops = (square_crop(image, predictor.config.image_size) for _, image in FrameReader(clips[0]))
    try:
        for images in _groups(crops, ESTIMATED_TOGETHER):
            params = predictor.predict(jnp.stack(images))
            for k, image in enumerate(images):
                yield DrivingFrame(HeadParams(*(np.asarray(values)[k] for values in params)), image)
    except PrepareError as error:
        raise ValueError(f"{path}: {error}") from error


def frames_per_second(path: str | Path) -> float | None:
    """The rate that a video file states, None for anything else."""
    import cv2

    rate = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) if Path(path).is_file() else 0.0
    return rate if rate > 0 else None


def _groups(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
