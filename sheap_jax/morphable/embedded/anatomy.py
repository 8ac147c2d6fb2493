"""The embedded head as an implicit surface: hand-set anatomical numbers and their smooth union.

Every number here was chosen by hand from common adult proportions; no scan or model enters. The *face frame* is used
throughout: millimetres, origin midway between the eyeball centres, +x the subject's left, +y up, +z out of the face.
`to_world` moves it to the metres of `sheap_jax.types`, so that the face sits in the window of the official camera as
real crops do (eyes 20 mm above the centre).

Smooth union: I. Quilez' polynomial smooth minimum; ellipsoids use its first-order distance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

Points = Float[np.ndarray, "n 3"]
MARCHING_STEPS = 48  # of a ray

FACE_ORIGIN = np.array([0.0, 0.020, 0.050])  # world position of the face frame's origin, metres

EYE = np.array([31.5, 0.0, 0.0])  # centre of the left eyeball
EYE_RADIUS = 12.0
LID_RADIUS = 13.4  # outer surface of the lids, a ball around the eyeball
EYE_INNER_CORNER = np.array([17.2, -3.0])
EYE_OUTER_CORNER = np.array([46.2, 0.3])
LID_UPPER, LID_LOWER = 5.0, -5.4  # heights of the lid margins above the line of the corners, at mid eye
MOUTH = np.array([0.0, -69.5, 31.0])  # middle of the line between the closed lips
MOUTH_HALF_WIDTH = 25.5
NOSE_TIP = np.array([0.0, -34.0, 47.0])
CHIN = np.array([0.0, -103.0, 28.0])


def to_world(points: ArrayLike) -> Float[np.ndarray, "*n 3"]:
    """Face frame (millimetres) to world (metres)."""
    return np.asarray(points, dtype=np.float64) / 1000.0 + FACE_ORIGIN


class Ellipsoid(NamedTuple):
    """A solid ellipsoid; `tilt` turns it about x, radians, top forwards."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    blend: float  # width in millimetres over which it melts into what came before
    paired: bool = False  # also mirrored to the other side
    tilt: float = 0.0

    def distance(self, points: Points) -> Float[np.ndarray, "n"]:
        p = points - np.array(self.center)
        if self.tilt:
            c, s = np.cos(self.tilt), np.sin(self.tilt)
            p = np.stack([p[:, 0], c * p[:, 1] + s * p[:, 2], c * p[:, 2] - s * p[:, 1]], axis=1)
        radii = np.array(self.radii)
        scaled = np.sqrt(np.sum((p / radii) ** 2, axis=1))
        slope = np.sqrt(np.sum((p / radii**2) ** 2, axis=1))
        return scaled * (scaled - 1.0) / np.maximum(slope, 1e-9)


class Cone(NamedTuple):
    """A capsule whose radius changes from `radii[0]` at `start` to `radii[1]` at `end`."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float]
    blend: float
    paired: bool = False

    def distance(self, points: Points) -> Float[np.ndarray, "n"]:
        start, axis = np.array(self.start), np.array(self.end) - np.array(self.start)
        along = np.clip((points - start) @ axis / (axis @ axis), 0.0, 1.0)
        radius = self.radii[0] + (self.radii[1] - self.radii[0]) * along
        return np.linalg.norm(points - start - along[:, None] * axis, axis=1) - radius


Solid = Ellipsoid | Cone

SKULL_AND_NECK: tuple[Solid, ...] = (
    Ellipsoid((0, 32, -79), (76, 74, 89), 1),
    Ellipsoid((0, 42, -40), (62, 52, 58), 25),  # forehead
    Ellipsoid((0, -12, -68), (68, 55, 68), 25),  # skull base, fills behind the cheeks
    Cone((0, -50, -95), (0, -235, -110), (51, 60), 25),  # neck
)

FACE: tuple[Solid, ...] = (
    Ellipsoid((0, -38, -38), (60, 62, 60), 20),
    Ellipsoid((0, -74, -30), (48, 40, 48), 22),  # floor of the mouth
    Cone((0, -99, 7), (23, -97, -8), (15, 12), 18, True),  # mandible: chin, body, ramus
    Cone((23, -97, -8), (47, -76, -50), (12, 9), 22, True),
    Cone((47, -76, -50), (58, -25, -62), (10, 8), 24, True),
    Ellipsoid((42, -27, -9), (20, 17, 19), 20, True),  # cheekbone
    Cone((52, -20, -16), (62, -10, -52), (8, 6), 20, True),  # zygomatic arch
    Ellipsoid((29, -54, -2), (22, 26, 19), 20, True),  # cheek
    Ellipsoid((43, -52, -26), (17, 26, 26), 22, True),
    Ellipsoid((0, -71, 3), (29, 27, 25), 16),  # muzzle: the teeth behind the lips
    Cone((0, 18, 9), (28, 18, 8), (12, 10), 18, True),  # brow ridge
    Cone((28, 18, 8), (52, 10, -12), (10, 9), 20, True),
)

SOCKET = Ellipsoid((33.5, -1.5, 21), (19, 13.5, 13), 8, True)
LIDS = Ellipsoid((31.5, 0, 0), (LID_RADIUS, LID_RADIUS, LID_RADIUS), 5, True)

NOSE_AND_LIPS: tuple[Solid, ...] = (
    Cone((0, 8, 14), (0, -31, 35), (8.0, 8.0), 8),  # bridge
    Cone((4.5, -4, 9), (7.5, -37, 25), (8.5, 8.5), 12, True),  # side walls
    Ellipsoid((0, -35, 37), (10, 9.5, 10), 6),  # tip
    Ellipsoid((11.5, -40.5, 26.5), (6.5, 7.5, 9.5), 4, True),  # alae
    Cone((0, -39, 38), (0, -47, 27), (5.0, 4.5), 4),  # columella
    Ellipsoid((0, -102, 12), (17, 13, 15), 14),  # chin
)

UPPER_LIP: tuple[Solid, ...] = (
    Cone((4.5, -65.0, 31.0), (25, -70.0, 18.5), (5.4, 2.6), 5, True),
    Ellipsoid((0, -65.4, 31.2), (6, 3.7, 4.5), 3),  # tubercle
)
LOWER_LIP: tuple[Solid, ...] = (
    Cone((0, -75.4, 29.3), (9, -75.0, 27.3), (6.0, 5.7), 4, True),
    Cone((9, -75.0, 27.3), (25, -72.0, 17.5), (5.7, 2.6), 5, True),
)
HOLLOWS: tuple[Solid, ...] = (
    Cone((0, -52, 38.5), (0, -60, 41.5), (3.0, 4.0), 4),  # philtrum
    Ellipsoid((6.3, -49.5, 31), (3.8, 4.0, 6.5), 2, True),  # nostrils
)


def smooth_min(first: np.ndarray, second: np.ndarray, width: float) -> np.ndarray:
    """Minimum of two distances with a rounded transition `width` millimetres wide."""
    overlap = np.maximum(width - np.abs(first - second), 0.0) / width
    return np.minimum(first, second) - 0.25 * width * overlap * overlap


def signed_distance(points: Points) -> Float[np.ndarray, "n"]:
    """Signed distance (about) to the skin of head and neck without ears, millimetres, negative inside."""
    mirrored = points.copy()
    mirrored[:, 0] = np.sqrt(points[:, 0] ** 2 + 4.0)  # a rounded |x|: no crease where the halves meet

    def add(distance: np.ndarray, solid: Solid) -> np.ndarray:
        return smooth_min(distance, solid.distance(mirrored if solid.paired else points), solid.blend)

    def remove(distance: np.ndarray, solid: Solid) -> np.ndarray:
        return -smooth_min(-distance, solid.distance(mirrored if solid.paired else points), solid.blend)

    distance = np.full(len(points), 1e3)
    for solid in (*SKULL_AND_NECK, *FACE):
        distance = add(distance, solid)
    distance = add(remove(distance, SOCKET), LIDS)
    for solid in NOSE_AND_LIPS:
        distance = add(distance, solid)
    lips = []
    for lip in (UPPER_LIP, LOWER_LIP):
        part = np.full(len(points), 1e3)
        for solid in lip:
            part = add(part, solid)
        lips.append(part)
    distance = smooth_min(distance, smooth_min(lips[0], lips[1], 1.0), 5.0)
    for solid in HOLLOWS:
        distance = remove(distance, solid)
    return distance


def cast_inward(origins: Points, directions: Points, *, start: float = 260.0) -> Points:
    """Outermost surface point on each ray origin + t direction, marching from t = `start` inwards (sphere tracing)."""
    t = np.full(len(origins), start)
    for _ in range(MARCHING_STEPS):
        step = signed_distance(origins + t[:, None] * directions)
        t = t - 0.9 * np.clip(step, -20.0, 40.0)
    return origins + t[:, None] * directions
