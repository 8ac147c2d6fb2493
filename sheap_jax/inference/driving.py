"""What drives an avatar: head parameters of one person, frame by frame, from a file or from pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from sheap_jax.data.cropping import CropBox, crop_image
from sheap_jax.data.prepare.video import FrameReader
from sheap_jax.inference.faces import FaceFinder
from sheap_jax.inference.inputs import Failure, find_inputs
from sheap_jax.inference.pipeline import Prediction, predict_clips
from sheap_jax.inference.predictor import Predictor
from sheap_jax.types import HeadParams

DEFAULT_RATE = 25.0  # frames per second, where nothing states one


class Driving(NamedTuple):
    """N frames of one person."""

    head: HeadParams  # NumPy arrays [n, ...]
    rate: float  # frames per second
    predictions: Sequence[Prediction] = ()  # what they were estimated from; none for parameters of a file

    def pictures(self, size: int) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        """The crop behind each frame, read again."""
        for prediction in self.predictions:
            boxes = dict(zip(prediction.frame.tolist(), zip(*prediction.box, strict=True), strict=True))
            for number, image in FrameReader(prediction.footage.clip):
                if number in boxes:
                    yield crop_image(image, CropBox(*boxes[number]), size)


def load_driving(path: str | Path, *, track: int = 0) -> Driving:
    """One person from a params.npz of predict.py, or from any .npz with a row per frame in these keys:

    expression [n, e], rotations [n, j, 3], translation [n, 3], and perhaps track [n] and rate. Others are ignored.

    Raises FileNotFoundError; ValueError if a key is missing, the lengths differ, a number is not finite or nobody has
    this `track`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in (*HeadParams._fields, "track", "rate") if key in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and NumPy raise various errors on damaged files
        raise ValueError(f"{path} is damaged or no .npz: {error}") from error
    missing = {"expression", "rotations", "translation"} - arrays.keys()
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: predict.py --save params writes such a file")
    rate = float(arrays.pop("rate", 0.0)) or DEFAULT_RATE
    count = len(arrays["expression"])
    rows = arrays.pop("track", np.zeros(count, int)) == track
    arrays.setdefault("shape", np.zeros((count, 0)))  # an avatar has its own
    for key, values in arrays.items():
        if len(values) != count or len(rows) != count:
            raise ValueError(f"{path}: {key} has {len(values)} rows, expression {count} and track {len(rows)}")
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {key} of frame {np.argwhere(~np.isfinite(values))[0, 0]} is not finite")
    if not rows.any():
        raise ValueError(f"{path}: nobody has the track {track}")
    return Driving(HeadParams(*(arrays[key][rows].astype(np.float32) for key in HeadParams._fields)), rate)


def estimate_driving(predictor: Predictor, path: str | Path, finder: FaceFinder, *, track: int = 0) -> Driving:
    """One person from a video, or from a picture or a folder of pictures in the order of their names.

    Raises ValueError for what cannot be read, or if nobody has this `track`; in pictures, 0 is the largest face.
    """
    clips, failures = find_inputs([str(path)])
    results = list(predict_clips(predictor, clips, finder, size=predictor.config.image_size))
    for failure in (*failures, *(result for result in results if isinstance(result, Failure))):
        raise ValueError(f"{failure.path}: {failure.reason}")
    predictions = [_only(result, track) for result in results if isinstance(result, Prediction)]
    head = jax.tree.map(lambda *rows: np.concatenate(rows), *(one.head for one in predictions))
    if not len(head.shape):
        raise ValueError(f"{path}: nobody has the track {track}")
    return Driving(head, predictions[0].footage.rate or DEFAULT_RATE, predictions)


def _only(prediction: Prediction, track: int) -> Prediction:
    rows = prediction.track == track
    head, box = jax.tree.map(lambda values: values[rows], (prediction.head, prediction.box))
    return prediction._replace(frame=prediction.frame[rows], track=prediction.track[rows], head=head, box=box)
