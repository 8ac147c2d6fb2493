"""What drives an avatar: head parameters of one person, frame by frame, from a file or from pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from sheap_jax.cropping import CropBox, crop_image
from sheap_jax.data.prepare.clips import DEFAULT_RATE
from sheap_jax.data.prepare.video import FrameReader, SameSize
from sheap_jax.files.array_files import read_npz
from sheap_jax.files.array_shapes import check_arrays
from sheap_jax.inference.faces import FaceFinder
from sheap_jax.inference.inputs import Failure, find_inputs
from sheap_jax.inference.pipeline import Prediction, predict_clips
from sheap_jax.inference.predictor import Predictor
from sheap_jax.types import HeadParams

_MOST_FRAMES = 10**7  # days of video
_AXES = {
    "expression": "number n e",
    "shape": "number m s",
    "rotations": "number r j 3",
    "translation": "number t 3",
    "track": "number k",
    "frame": "number l",
    "frames": "number",
    "rate": "number",
    "times": "number x",
}  # lengths are compared later, by name


class Driving(NamedTuple):
    """All frames of a video with one person, who keeps still where the video does not show them: see `held_rows`."""

    head: HeadParams  # NumPy arrays [n, ...]
    times: Float[np.ndarray, "n+1"]  # seconds at which frames start, from 0, and the last one ends
    predictions: Sequence[Prediction] = ()  # what they were estimated from; none for parameters of a file

    def pictures(self, size: int) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        """The crop behind each frame, read again, not stretched: a rectangle with what lies around it."""
        for prediction in self.predictions:
            rows = held_rows(prediction.frame, prediction.footage.frames)
            for row, frame in zip(rows, FrameReader(prediction.footage.clip), strict=True):
                box = CropBox(*(np.asarray(values)[row] for values in prediction.box))
                yield crop_image(frame.image, box._replace(stretch=(1.0, 1.0)), size)


def held_rows(frame: Int[np.ndarray, "n"], frames: int) -> Int[np.ndarray, "frames"]:
    """The row to show in each of `frames` frames, so that what drives keeps its time where rows are missing.

    It is the frame's own row, else the last one before it; before any, the first. `frame` ascends.
    """
    return np.maximum(np.searchsorted(frame, np.arange(frames), side="right") - 1, 0)


def load_driving(path: str | Path, *, track: int = 0) -> Driving:
    """One person from a params.npz of `sheap predict`, or from any .npz with these keys; others are ignored.

        expression [n, e], rotations [n, j, 3], translation [n, 3]
        track [n]       optional: whose row it is
        frame [n]       optional: the number of the row's frame; without it, each row is the next frame
        times           optional: as in `Driving`
        frames, rate    optional, without times: how many frames there are (default: up to the last row's), and per
                        second

    Raises FileNotFoundError; ValueError if a key is missing, the lengths differ, a number is not finite, frames or
    times do not ascend, or nobody has this `track`.
    """
    wanted = (*HeadParams._fields, "track", "frame", "frames", "rate", "times")
    arrays = read_npz(path, wanted, way_out="make it again with sheap predict --save params")
    missing = {"expression", "rotations", "translation"} - arrays.keys()
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: sheap predict --save params writes such a file")
    for key in {"frames", "rate"} & arrays.keys():
        if arrays[key].size == 1:  # others write a number as a list of one
            arrays[key] = arrays[key].reshape(())
    check_arrays(path, arrays, _AXES, way_out="make it again with sheap predict --save params")
    rate = float(arrays.pop("rate", 0.0)) or DEFAULT_RATE
    frames, times = int(arrays.pop("frames", 0)), arrays.pop("times", None)
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
    # Rows of a file without frames are those of this person alone.
    frame = arrays["frame"][rows] if "frame" in arrays else np.arange(rows.sum())
    if frame[0] < 0 or np.any(np.diff(frame) <= 0):
        raise ValueError(f"{path}: frame must ascend from 0 or more within a track")
    frames = max(frames if times is None else times.size - 1, int(frame[-1]) + 1)
    if frames > _MOST_FRAMES:
        raise ValueError(f"{path} states {frames} frames, at most {_MOST_FRAMES} are read")
    if times is None:
        times = np.arange(frames + 1) / rate
    if times.shape != (frames + 1,) or not np.isfinite(times).all() or np.any(np.diff(times) <= 0):
        raise ValueError(f"{path}: times must be {frames + 1} ascending numbers, the start of each frame and the end")
    held = held_rows(frame, frames)
    head = HeadParams(*(arrays[key][rows][held].astype(np.float32) for key in HeadParams._fields))
    return Driving(head, times - times[0])


def estimate_driving(predictor: Predictor, path: str | Path, finder: FaceFinder, *, track: int = 0) -> Driving:
    """One person from a video, or from a picture or a folder of pictures in the order of their names and numbers.

    Raises ValueError for what cannot be read, or if nobody has this `track`; in pictures, 0 is the largest face.
    """
    predictions = read_predictions(predictor, [path], finder, track=track)
    return driving_of(predictions)


def read_predictions(
    predictor: Predictor, paths: Sequence[str | Path], finder: FaceFinder, *, track: int | None = 0
) -> list[Prediction]:
    """What a predictor reads of one person in videos and pictures; errors as in `estimate_driving`.

    Where nobody else is in the pictures, `track=None` takes the first face of every frame, also after a cut.
    """
    clips, failures = find_inputs([str(path) for path in paths])
    for failure in failures:
        raise ValueError(f"{failure.path}: {failure.reason}")
    found, sizes = [], SameSize()
    for result in predict_clips(predictor, clips, finder, size=predictor.config.image_size):
        if isinstance(result, Failure):
            raise ValueError(f"{result.path}: {result.reason}")
        footage = result.footage
        if footage.clip.is_photograph:  # the pictures of a folder are frames
            sizes.check(footage.clip.path, footage.height, footage.width)
        found.append(_only(result, track))
    predictions = [one for one in found if len(one.frame)]
    if not predictions:
        raise ValueError(f"{paths[0]}: nobody has the track {track}")
    return predictions


def driving_of(predictions: Sequence[Prediction]) -> Driving:
    """The frames of all predictions, one after another."""
    head = jax.tree.map(lambda *rows: np.concatenate(rows), *map(_held_head, predictions))
    lengths = np.concatenate([np.diff(prediction.footage.times) for prediction in predictions])
    return Driving(head, np.append(0.0, np.cumsum(lengths)), predictions)


def _held_head(prediction: Prediction) -> HeadParams:
    rows = held_rows(prediction.frame, prediction.footage.frames)
    return jax.tree.map(lambda values: values[rows], prediction.head)


def _only(prediction: Prediction, track: int | None) -> Prediction:
    """The rows of one track, or of the first face of every frame, which then is track 0."""
    rows = prediction.track == track
    if track is None:
        rows = np.diff(prediction.frame, prepend=-1) > 0
        prediction = prediction._replace(track=np.zeros_like(prediction.track))
    head, box = jax.tree.map(lambda values: values[rows], (prediction.head, prediction.box))
    return prediction._replace(frame=prediction.frame[rows], track=prediction.track[rows], head=head, box=box)
