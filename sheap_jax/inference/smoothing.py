"""What a video knows that a photograph does not: one identity for each person, and motion that is smooth."""

import numpy as np
from jaxtyping import Float

from sheap_jax.inference.pipeline import Prediction


def one_identity(prediction: Prediction) -> Prediction:
    """The same shape in all frames of a track: the geometric median, on which a few bad frames have little pull."""
    shape = np.array(prediction.head.shape)
    for track in np.unique(prediction.track):
        rows = prediction.track == track
        shape[rows] = geometric_median(shape[rows])
    return prediction._replace(head=prediction.head._replace(shape=shape))


def geometric_median(points: Float[np.ndarray, "n d"], *, iterations: int = 50) -> Float[np.ndarray, "d"]:
    """The point with the least sum of distances to `points` (Weiszfeld's iteration, from the mean)."""
    median = points.mean(axis=0)
    for _ in range(iterations):
        distance = np.linalg.norm(points - median, axis=1)
        weight = 1.0 / np.maximum(distance, 1e-6 * (1.0 + distance.max()))
        median = weight @ points / weight.sum()
    return median


def smooth_motion(prediction: Prediction, *, min_cutoff: float, beta: float) -> Prediction:
    """Pose, expression and translation of every track through the One Euro filter; shape and crops stay.

    The head moves within its crop, and the crop moves in the picture. The crop has a smoothing of its own
    (cropping.py): it is part of the framing that the network knows.
    """
    head = prediction.head
    moving = {name: np.array(getattr(head, name)) for name in ("expression", "rotations", "translation")}
    for track in np.unique(prediction.track):
        rows = np.flatnonzero(prediction.track == track)
        seconds = prediction.seconds[rows]
        for name, values in moving.items():
            flat = values[rows].reshape(len(rows), -1)
            scale = TYPICAL_MOTION[name]
            smooth = one_euro(flat / scale, seconds, min_cutoff=min_cutoff, beta=beta) * scale
            values[rows] = smooth.reshape(values[rows].shape)
    return prediction._replace(head=head._replace(**moving))


# What a second of lively motion changes: the filter sees speeds in these units, so that one beta suits all. Ours.
TYPICAL_MOTION = {"expression": 1.0, "rotations": 0.5, "translation": 0.05}
SPEED_CUTOFF = 1.0  # Hz of the filter of the speed itself


def one_euro(
    values: Float[np.ndarray, "t d"],
    seconds: Float[np.ndarray, "t"],
    *,
    min_cutoff: float,
    beta: float,
) -> Float[np.ndarray, "t d"]:
    """Low-pass filter whose cutoff rises with speed: calm when still, prompt when moving (Casiez et al., CHI 2012).

    Args:
      seconds: ascending times of the values.
      min_cutoff: Hz at rest; lower is calmer.
      beta: Hz per unit of speed; higher trails less in fast motion.
    """
    smooth = np.array(values)
    speed = np.zeros_like(smooth[0])
    for i in range(1, len(values)):
        step = seconds[i] - seconds[i - 1]
        speed += _share(SPEED_CUTOFF, step) * ((values[i] - smooth[i - 1]) / step - speed)
        smooth[i] = smooth[i - 1] + _share(min_cutoff + beta * np.abs(speed), step) * (values[i] - smooth[i - 1])
    return smooth


def _share(cutoff: Float[np.ndarray, "*d"] | float, step: float) -> Float[np.ndarray, "*d"] | float:
    """Weight of a new value in exponential smoothing with a cutoff in Hz."""
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff * step))
