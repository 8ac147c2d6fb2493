"""Expressions of the embedded head: semantic displacement fields, millimetres at coefficient 1.

They act on the template without the jaw, which is a joint. Lips are told apart by the opened chart of the mouth
(`HeadMesh.mouth`), because both lips share one position on the line where they meet.
"""

import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import (
    EYE,
    EYE_INNER_CORNER,
    EYE_OUTER_CORNER,
    LID_LOWER,
    LID_RADIUS,
    LID_UPPER,
    MOUTH,
    MOUTH_HALF_WIDTH,
    Points,
)
from sheap_jax.morphable.embedded.identity import X, Y, Z, both, bump, side
from sheap_jax.morphable.embedded.mesh import HeadMesh

CORNER = (MOUTH_HALF_WIDTH, -71.0, 22.0)


def _smile(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    corner = both(p, CORNER, (13, 11, 16))
    cheek = both(p, (40, -42, 8), (14, 13, 18))
    return corner * (6.0 * side(p) * X + 5.5 * Y - 4.0 * Z) + cheek * (1.5 * side(p) * X + 2.5 * Y + 2.0 * Z)


def _frown(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    return both(p, CORNER, (11, 10, 16)) * (1.0 * side(p) * X - 5.0 * Y) + bump(p, (0, -92, 26), (16, 9, 14)) * (
        1.5 * Y + Z
    )


def _pucker(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    window = bump(p, MOUTH, (22, 13, 22))
    return window * (-0.42 * p[:, :1] * X + 5.0 * Z) + both(p, (34, -60, 8), 14.0) * -1.0 * side(p) * X


def _lips_part(mesh: HeadMesh) -> Points:
    across, height = mesh.mouth[:, 0], mesh.mouth[:, 1]
    window = np.sqrt(np.maximum(1.0 - (across / 27.5) ** 2, 0.0)) * (mesh.anchor[:, 2] > -20)
    fade = np.exp(-((np.maximum(np.abs(height) - 9.0, 0.0) / 9.0) ** 2))
    lift = np.where(height > 0, 2.6, 4.4) * np.tanh(height / 2.0)
    return (window * fade * lift)[:, None] * Y


def _lip_press(mesh: HeadMesh) -> Points:
    across, height = mesh.mouth[:, 0], mesh.mouth[:, 1]
    window = np.exp(-((across / 24.0) ** 4)) * (mesh.anchor[:, 2] > -20)
    lips = np.exp(-(((np.abs(height) - 7.5) / 4.5) ** 2)) * np.sign(height) * np.minimum(np.abs(height) / 4.5, 1.0)
    inwards = np.exp(-((height / 10.0) ** 4))
    return window[:, None] * (-1.3 * lips[:, None] * Y - 1.8 * inwards[:, None] * Z)


def _brow_inner_up(mesh: HeadMesh) -> Points:
    return both(mesh.anchor, (12, 22, 22), (12, 11, 18)) * (5.0 * Y + 0.5 * Z)


def _brow_outer_up(mesh: HeadMesh, sign: float) -> Points:
    return bump(mesh.anchor, (sign * 42, 20, 12), (14, 12, 20)) * 5.0 * Y


def _brow_frown(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    return both(p, (15, 18, 22), (12, 9, 16)) * (-2.2 * side(p) * X - 3.8 * Y + 0.8 * Z)


def _lid(mesh: HeadMesh, sign: float, upper: float, lower: float) -> Points:
    """Lid margins travel the shares `upper` and `lower` of the gap towards each other, sliding over the eyeball."""
    local = (mesh.anchor - EYE * [sign, 1, 1]) * [sign, 1, 1]
    middle, half = (EYE_INNER_CORNER + EYE_OUTER_CORNER) / 2, (EYE_OUTER_CORNER - EYE_INNER_CORNER) / 2
    along = (local[:, 0] + EYE[0] - middle[0]) / half[0]
    corner_line = middle[1] + along * half[1]
    arch = np.sqrt(np.maximum(1.0 - along**2, 0.0))
    top, bottom = corner_line + LID_UPPER * arch, corner_line + LID_LOWER * arch
    gap = top - bottom
    height = local[:, 1]
    is_upper = height > 0.5 * (top + bottom)
    beyond = np.where(is_upper, height - top, bottom - height)
    fade = np.exp(-((np.maximum(beyond, 0.0) / 5.5) ** 2)) * (local[:, 2] > 0) * (np.abs(along) < 1)
    travel = np.where(is_upper, -upper, lower) * gap * fade
    radius = np.maximum(np.hypot(height, local[:, 2]), 1e-6)
    # Keep the distance to the axis of the lids' rotation, but stay outside of the eyeball.
    ball = np.sqrt(np.maximum((LID_RADIUS + 0.3) ** 2 - local[:, 0] ** 2, 0.0))
    kept = np.maximum(radius, np.where(fade > 0.3, ball, 0.0))
    depth = np.sqrt(np.maximum(kept**2 - (height + travel) ** 2, 0.0)) - local[:, 2]
    moving = np.minimum(np.abs(travel) / 1.0, 1.0)
    result = np.stack([np.zeros_like(travel), travel, np.clip(depth, -4.0, 4.0) * moving], axis=1)
    result[mesh.part >= 3] = 0.0
    return result


def _squint(mesh: HeadMesh) -> Points:
    return _lid(mesh, 1.0, 0.15, 0.28) + _lid(mesh, -1.0, 0.15, 0.28)


def _cheek_raise(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    return both(p, (38, -26, 12), (15, 11, 16)) * (0.8 * side(p) * X + 3.2 * Y + 1.6 * Z)


def _sneer(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    return (
        both(p, (14, -42, 26), (9, 10, 12)) * (3.0 * Y + 0.8 * side(p) * X)
        + both(p, (13, -60, 28), (10, 7, 12)) * 2.2 * Y
    )


def _cheek_puff(mesh: HeadMesh) -> Points:
    p = mesh.anchor
    return both(p, (40, -64, 4), (15, 16, 20)) * (5.0 * side(p) * X + 3.5 * Z)


EXPRESSIONS = {
    "smile": _smile,
    "frown": _frown,
    "pucker": _pucker,
    "lips_part": _lips_part,
    "lip_press": _lip_press,
    "brow_inner_up": _brow_inner_up,
    "brow_outer_up_left": lambda mesh: _brow_outer_up(mesh, 1.0),
    "brow_outer_up_right": lambda mesh: _brow_outer_up(mesh, -1.0),
    "brow_frown": _brow_frown,
    "lid_close_left": lambda mesh: _lid(mesh, 1.0, 0.92, 0.08),
    "lid_close_right": lambda mesh: _lid(mesh, -1.0, 0.92, 0.08),
    "squint": _squint,
    "cheek_raise": _cheek_raise,
    "sneer": _sneer,
    "cheek_puff": _cheek_puff,
}


def expression_basis(mesh: HeadMesh) -> Float[np.ndarray, "e v 3"]:
    """Displacements of `EXPRESSIONS`, millimetres; eyeballs do not move."""
    moves = np.stack([field(mesh) for field in EXPRESSIONS.values()])
    moves[:, mesh.part >= 3] = 0.0
    return moves
