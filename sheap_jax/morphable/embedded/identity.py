"""Identity of the embedded head: semantic modes, and the individual detail that no mode spans.

Modes are smooth vector fields of the position on the template, in millimetres per standard deviation, so that they
mean the same at every mesh density. Near an eye a field is replaced by its value at the eyeball's centre: lids and
eyeball move together.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import CHIN, EYE, MOUTH, NOSE_TIP, Points
from sheap_jax.morphable.embedded.mesh import HeadMesh

Field = Callable[[Points], Points]  # positions in the face frame -> displacements, millimetres

X, Y, Z = np.eye(3)


def bump(
    points: Points, center: tuple[float, float, float] | np.ndarray, width: tuple[float, float, float] | float
) -> np.ndarray:
    """Gaussian weight [n, 1] about `center` with standard deviations `width`, millimetres."""
    return np.exp(-0.5 * np.sum(((points - np.asarray(center)) / np.asarray(width)) ** 2, axis=1))[:, None]


def both(points: Points, center: tuple[float, float, float], width: tuple[float, float, float] | float) -> np.ndarray:
    """Sum of a bump and its mirror image; where they overlap no more than one."""
    other = np.asarray(center) * [-1.0, 1.0, 1.0]
    return np.minimum(bump(points, center, width) + bump(points, other, width), 1.0)


def ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smooth step [n, 1] from 0 at `start` to 1 at `end`."""
    t = np.clip((values - start) / (end - start), 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t))[:, None]


def side(points: Points) -> np.ndarray:
    """-1 to 1 across the face [n, 1], smooth at the middle."""
    return np.tanh(points[:, :1] / 8.0)


def _column(points: Points, axis: int, origin: float = 0.0) -> np.ndarray:
    return points[:, axis : axis + 1] - origin


def _above_neck(p: Points) -> np.ndarray:
    return ramp(p[:, 1], -150.0, -90.0)


def _front(p: Points) -> np.ndarray:
    return ramp(p[:, 2], -70.0, -10.0)


def _neck(p: Points) -> np.ndarray:
    return 1.0 - ramp(p[:, 1] + 0.3 * (p[:, 2] + 40.0), -140.0, -104.0)


def _ear(p: Points) -> np.ndarray:
    return both(p, (84, -17, -92), (14, 26, 18))


SPREAD = 1.15  # of all modes: people then differ from the mean head by about what scans of faces do
NOSE_WIDTH = (11.0, 16.0, 16.0)

IDENTITY_MODES: dict[str, Field] = {
    "head_width": lambda p: 0.036 * _column(p, 0) * _above_neck(p) * X,
    "head_height": lambda p: 0.03 * np.maximum(_column(p, 1), 0.0) ** 2 / 70.0 * Y,
    "head_depth": lambda p: 0.035 * _column(p, 2, -70.0) * _above_neck(p) * Z,
    "face_height": lambda p: 0.04 * np.minimum(_column(p, 1), 0.0) * _above_neck(p) * _front(p) * Y,
    "jaw_width": lambda p: 4.6 * both(p, (50, -78, -45), (28, 24, 30)) * side(p) * X,
    "chin_length": lambda p: -4.0 * bump(p, CHIN - 6.0 * Y - 12.0 * Z, (26, 20, 30)) * Y,
    "chin_protrusion": lambda p: 4.0 * bump(p, CHIN, (24, 17, 26)) * Z,
    "chin_width": lambda p: 3.2 * both(p, (22, -103, 8), (14, 14, 20)) * side(p) * X,
    "cheekbones": lambda p: both(p, (50, -22, -2), (15, 13, 20)) * (3.0 * side(p) * X + 1.8 * Z),
    "cheek_fullness": lambda p: both(p, (40, -58, -4), (17, 19, 22)) * (3.6 * side(p) * X + 2.2 * Z),
    "brow_ridge": lambda p: both(p, (22, 16, 20), (22, 9, 16)) * 2.4 * Z,
    "forehead_slope": lambda p: -0.10 * np.maximum(_column(p, 1, 15.0), 0.0) * _front(p) * Z,
    "nose_length": lambda p: -3.0 * bump(p, NOSE_TIP - 8.0 * Y - 8.0 * Z, NOSE_WIDTH) * Y,
    "nose_width": lambda p: 0.15 * _column(p, 0) * bump(p, (0, -40, 28), (18, 13, 16)) * X,
    "nose_bridge": lambda p: 2.4 * bump(p, (0, -10, 30), (9, 13, 14)) * Z,
    "nose_tip": lambda p: 2.2 * bump(p, NOSE_TIP, (10, 9, 10)) * (Y + 0.3 * Z),
    "nose_protrusion": lambda p: 2.6 * bump(p, NOSE_TIP - 2.0 * Y - 6.0 * Z, (14, 15, 16)) * Z,
    "eye_spacing": lambda p: 1.6 * both(p, (31.5, 0, 8), (20, 16, 20)) * side(p) * X,
    "eye_depth": lambda p: 2.0 * both(p, (31.5, 0, 8), (19, 14, 20)) * Z,
    "eye_height": lambda p: 1.5 * both(p, (31.5, 0, 8), (26, 16, 20)) * Y,
    "mouth_width": lambda p: 0.085 * _column(p, 0) * bump(p, MOUTH, (26, 14, 22)) * X,
    "mouth_height": lambda p: 1.8 * bump(p, MOUTH, (27, 16, 22)) * Y,
    "ear_size": lambda p: (
        0.10 * _ear(p) * (p - np.stack([np.sign(p[:, 0]) * 72, 0 * p[:, 0] - 17, 0 * p[:, 0] - 78], 1))
    ),
    "neck_width": lambda p: 0.055 * (p - [0, 0, -98]) * [1.0, 0, 1.0] * _neck(p),
    "face_roundness": lambda p: (
        -1.8 * (np.minimum(_column(p, 0) ** 2 / 1600.0, 2.0) - 0.5) * _front(p) * _above_neck(p) * Z
    ),
    "midface_protrusion": lambda p: 2.4 * bump(p, (0, -32, 25), (38, 30, 40)) * Z,
    "mouth_protrusion": lambda p: 2.0 * bump(p, MOUTH, (26, 15, 25)) * Z,
}


def _lip_fullness(mesh: HeadMesh) -> Points:
    """Lips swell away from their line; it stays closed."""
    across, height = mesh.mouth[:, 0], mesh.mouth[:, 1]
    window = np.exp(-((across / 22.0) ** 4)) * (mesh.anchor[:, 2] > -20)
    away = ramp(np.abs(height), 4.0, 12.0)[:, 0] * np.exp(-((np.maximum(np.abs(height) - 11.0, 0) / 5.0) ** 2))
    forward = np.exp(-((height / 13.0) ** 4))
    return window[:, None] * (0.9 * (np.sign(height) * away)[:, None] * Y + 1.0 * forward[:, None] * Z)


def _with_eyes(field: Field, mesh: HeadMesh) -> Points:
    """The field, made constant near each eye so that lids and eyeball move together."""
    result = field(mesh.anchor)
    for sign in (1.0, -1.0):
        center = EYE * [sign, 1.0, 1.0]
        near = 1.0 - ramp(np.linalg.norm(mesh.anchor - center, axis=1), 14.5, 26.0)
        at_eye = field(np.array([center + 10.0 * Z]))
        result = result + near * (at_eye - result)
    return result


def _eye_size(mesh: HeadMesh) -> Points:
    """Lids and eyeballs scale about the eyeballs' centres."""
    result = np.zeros_like(mesh.points)
    for sign in (1.0, -1.0):
        center = EYE * [sign, 1.0, 1.0]
        near = 1.0 - ramp(np.linalg.norm(mesh.anchor - center, axis=1), 17.0, 30.0)
        result += 0.045 * near * (mesh.points - center)
    return result


def identity_basis(mesh: HeadMesh) -> Float[np.ndarray, "s v 3"]:
    """Displacements of the identity modes, millimetres per standard deviation, in the order of `identity_names`."""
    fields = [_with_eyes(field, mesh) for field in IDENTITY_MODES.values()]
    return SPREAD * np.stack([*fields, _lip_fullness(mesh), _eye_size(mesh)])


def identity_names() -> tuple[str, ...]:
    return (*IDENTITY_MODES, "lip_fullness", "eye_size")


# Individual detail: (width of the bumps, root mean square height) in millimetres, from asymmetries to small bumps.
DETAIL_SCALES = ((34.0, 0.87), (20.0, 0.63), (12.0, 0.36), (7.0, 0.13))


def individual_detail(mesh: HeadMesh, rng: np.random.Generator) -> Points:
    """A person's own smooth random displacement, mostly along the surface's outward direction, millimetres."""
    outward = mesh.anchor - np.array([0.0, -30.0, -70.0])
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    strength = np.zeros((len(mesh.anchor), 3))
    for width, height in DETAIL_SCALES:
        # float32: the cosines take most of the time, and errors of a nanometre do not matter.
        waves = (rng.normal(size=(96, 3)) / width).astype(np.float32)
        phase = rng.uniform(0, 2 * np.pi, 96).astype(np.float32)
        mix = (rng.normal(size=(96, 3)) * np.sqrt(2.0 / 96)).astype(np.float32)

        def noise(p: Points, waves=waves, phase=phase, mix=mix) -> Points:
            return np.cos(p.astype(np.float32) @ waves.T + phase) @ mix

        value = _with_eyes(noise, mesh)
        strength += height * (value[:, :1] * outward + 0.35 * value)
    calm = 1.0 - 0.7 * both(mesh.anchor, (84, -17, -92), (14, 30, 20))
    return strength * calm
