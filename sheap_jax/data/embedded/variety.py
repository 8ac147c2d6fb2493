"""How far people, light and pictures may go: the ranges of a portrait studio, or those of pictures from anywhere."""

from typing import NamedTuple

import numpy as np


class Variety(NamedTuple):
    """Ranges of the random draws of a clip."""

    turns: tuple[float, float, float]  # largest pitch, yaw and roll in radians
    turn_spread: tuple[float, float, float]  # standard deviation of where a head rests, in units that tanh bounds
    jaw_openings: tuple[float, ...]  # radians of the widest opening of a clip, one is drawn
    jaw_shares: tuple[float, ...]  # their probabilities
    active_expressions: tuple[float, float]  # share of the movements that a clip uses
    expression_amplitude: tuple[float, float]  # of these, in full expressions
    open_smile: float  # probability that a clip has a broad smile that shows the teeth
    key_spread: float  # standard deviation of the main light's azimuth in radians
    warmth_spread: float  # of its colour, in the units of `light_and_backdrop`
    exposure_spread: float  # of the logarithm of all light
    brow_drop: tuple[float, float]  # mean and spread of how far painted brows lie below their landmarks, metres
    brow_reach: tuple[float, float]  # range of their length, in that of their landmarks
    backdrop_blur: tuple[float, float]  # range of its standard deviation in texels
    most_shapes: int  # boxes and blobs of a backdrop
    looks_spread: float  # standard deviation of the logarithm of brows, lips, stubble, shine, age lines
    glasses: float  # probability that a clip's person wears them
    hat: float
    occluder: float  # probability that something stands before the face in a frame: a hand, a microphone


def _degrees(*angles: float) -> tuple[float, float, float]:
    pitch, yaw, roll = np.radians(angles).tolist()
    return pitch, yaw, roll


VARIETIES = {
    "portrait": Variety(
        turns=_degrees(15.0, 35.0, 10.0),
        turn_spread=(0.35, 0.45, 0.3),
        jaw_openings=(0.04, 0.16, 0.32),
        jaw_shares=(0.45, 0.4, 0.15),
        active_expressions=(0.2, 0.5),
        expression_amplitude=(0.5, 1.1),
        open_smile=0.0,
        key_spread=0.75,
        warmth_spread=0.6,
        exposure_spread=0.15,
        brow_drop=(0.0, 0.0),
        brow_reach=(1.0, 1.0),
        backdrop_blur=(1.2, 7.5),
        most_shapes=10,
        looks_spread=0.0,
        glasses=0.0,
        hat=0.0,
        occluder=0.0,
    ),
    "wild": Variety(
        turns=_degrees(28.0, 65.0, 20.0),
        turn_spread=(0.45, 0.65, 0.45),
        jaw_openings=(0.04, 0.16, 0.32, 0.6),
        jaw_shares=(0.3, 0.3, 0.25, 0.15),
        active_expressions=(0.2, 0.7),
        expression_amplitude=(0.6, 1.4),
        open_smile=0.35,
        key_spread=1.1,
        warmth_spread=1.2,
        exposure_spread=0.35,
        brow_drop=(0.0025, 0.0025),
        brow_reach=(0.95, 1.3),
        backdrop_blur=(0.4, 7.5),
        most_shapes=25,
        looks_spread=0.4,
        glasses=0.2,
        hat=0.1,
        occluder=0.1,
    ),
}
