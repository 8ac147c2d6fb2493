"""How heads move in a clip: smooth tracks of expression, head pose and gaze."""

import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline

from sheap_jax.data.embedded.variety import Variety
from sheap_jax.morphable.model import MorphableModel

GAZE = np.radians([14.0, 8.0])  # sideways, up and down
SECONDS_PER_FRAME = 0.4  # frames of a clip lie far enough apart to differ
# Movements of a broad smile, as the generated head and ARKit name them.
SMILES, PARTED_LIPS, CHEEKS = (
    ("smile", "mouthSmile"),
    ("lips_part", "mouthUpperUp", "mouthLowerDown"),
    ("cheek_raise", "cheekSquint"),
)
ROOT_SHARE = (0.35, 0.75)  # part of a head turn that the whole body makes, the neck makes the rest


class Motion(NamedTuple):
    """Model coefficients of the frames of one clip."""

    expression: Float[Array, "n e"]
    rotations: Float[Array, "n j 3"]


def draw_motion(rng: np.random.Generator, model: MorphableModel, frames: int, variety: Variety) -> Motion:
    """A random performance: somebody talks, makes faces and looks round."""
    time = np.arange(frames) * SECONDS_PER_FRAME
    turn = _head_turns(rng, time, variety)
    share = rng.uniform(*ROOT_SHARE)
    rotations = np.zeros((frames, len(model.parents), 3))
    joints = {name: index for index, name in enumerate(model.joint_names)}
    rotations[:, 0] = turn
    if "neck" in joints:
        rotations[:, 0] = share * turn
        rotations[:, joints["neck"]] = (1 - share) * turn
    if "jaw" in joints:
        rotations[:, joints["jaw"], 0] = _jaw(rng, time, variety)
        rotations[:, joints["jaw"], 1] = 0.02 * track(rng, time, 0.4)
    gaze = np.stack([-0.6 * GAZE[1] * track(rng, time, 0.5), GAZE[0] * track(rng, time, 0.5)], axis=-1)
    gaze = np.clip(gaze - 0.25 * turn[:, :2], -1.5 * GAZE[1], 1.5 * GAZE[0])  # eyes stay with the viewer a little
    for name, index in joints.items():
        if "eye" in name:
            rotations[:, index, :2] = gaze
    expression = _expressions(rng, time, model, variety)
    return Motion(jnp.asarray(expression, jnp.float32), jnp.asarray(rotations, jnp.float32))


def track(rng: np.random.Generator, time: Float[np.ndarray, "n"], pace: float) -> Float[np.ndarray, "n"]:
    """A smooth random curve of about unit variance through independent keys every `pace` seconds."""
    return tracks(rng, time, pace, 1)[:, 0]


def tracks(rng: np.random.Generator, time: Float[np.ndarray, "n"], pace: float, count: int) -> Float[np.ndarray, "n c"]:
    """`count` independent tracks."""
    keys = np.arange(0, max(time[-1], pace) + 2 * pace, pace)
    values = CubicSpline(keys, rng.standard_normal((len(keys), count)))
    return values(np.minimum(time + rng.uniform(0, pace), keys[-1]))


def _head_turns(rng: np.random.Generator, time: np.ndarray, variety: Variety) -> Float[np.ndarray, "n 3"]:
    """Rotation vectors (x: pitch, positive looks down; y: yaw, positive to the subject's left; z: roll)."""
    rest = rng.normal(0, variety.turn_spread)
    moves = tracks(rng, time, 0.9, 3)
    return np.array(variety.turns) * np.tanh(0.7 * (rest + 0.55 * moves))


def _jaw(rng: np.random.Generator, time: np.ndarray, variety: Variety) -> Float[np.ndarray, "n"]:
    """Opening in radians: mostly nearly closed, sometimes wide."""
    widest = rng.choice(variety.jaw_openings, p=variety.jaw_shares)
    return widest / (1 + np.exp(-2.2 * track(rng, time, 0.45)))


def _expressions(
    rng: np.random.Generator, time: np.ndarray, model: MorphableModel, variety: Variety
) -> Float[np.ndarray, "n e"]:
    """A few active components at a time over a weak tremor of all, in units of full expressions (0 to 1).

    Left and right parts of one movement mostly go together.
    """
    movements = [re.sub(r"_(left|right|L|R)$", "", name) for name in model.expression_names]
    kinds, member = np.unique(movements, return_inverse=True)
    active = rng.random(len(kinds)) < rng.uniform(*variety.active_expressions)
    amplitude = np.where(active, rng.uniform(*variety.expression_amplitude, len(kinds)), 0.1)
    together, own = tracks(rng, time, 0.7, len(kinds)), tracks(rng, time, 0.7, len(movements))
    level = 0.25 + 0.5 * (0.9 * together[:, member] + 0.3 * own)
    shown = amplitude[member] * np.clip(level, -0.08, 1.0)
    if variety.open_smile > 0.0 and rng.random() < variety.open_smile:
        _smile(rng, np.array(movements), shown)
    return shown


def _smile(rng: np.random.Generator, movements: np.ndarray, shown: Float[np.ndarray, "n e"]) -> None:
    """Make a clip's smile broad and its lips part, by an amount of each frame, in place."""
    amount = rng.uniform(0.3, 1.0, (len(shown), 1))
    for names, most in ((SMILES, rng.uniform(1.0, 2.0)), (PARTED_LIPS, rng.uniform(0.6, 2.0)), (CHEEKS, 0.8)):
        of_these = np.isin(movements, names)
        shown[:, of_these] = np.maximum(shown[:, of_these], most * amount)
