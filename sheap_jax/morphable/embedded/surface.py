"""The continuous skin of the embedded head: a map from the unit sphere (the *chart*) to the face frame.

Every skin point has a chart direction. Rays leave the middle of the head along it, and descend along the neck's axis
near the sphere's bottom; the outermost crossing with the implicit surface is the skin. Both mesh densities sample this
one map. Two places leave the ray: around the mouth the chart is opened, so that an ellipse of the chart closes to the
line between the lips; on the ear the point is read off a small shell model.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import (
    EYE,
    EYE_INNER_CORNER,
    EYE_OUTER_CORNER,
    LID_LOWER,
    LID_UPPER,
    MOUTH,
    MOUTH_HALF_WIDTH,
    Points,
    cast_inward,
)

RAY_CENTER = np.array([0.0, -10.0, -70.0])
NECK_AXIS = np.array([0.0, -np.cos(0.18), -np.sin(0.18)])  # of the chart: towards the middle of the neck's cut
NECK_END = np.array([0.0, -183.0, -103.0])  # where the rays of the cut start
NECK_ANGLE, CUT_ANGLE = 0.47, 0.17  # radians from the axis: where rays start to descend, where the neck is cut
MOUTH_OPENING = 4.5  # half height of the mouth's ellipse in the chart, millimetres on the mouth plane
MOUTH_BLEND = 12.0  # reach of the opened chart beyond the ellipse
EAR_PLANE = 72.0  # x of the plane on which ear coordinates are measured
EAR_CENTER = np.array([-84.0, -18.0])  # (z, y) on that plane
EAR_ROOT = np.array([15.0, 28.0])  # half axes of the ear's root on that plane
EAR_TILT = 0.17  # radians, top backwards


def normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cast_frontal(xy: Float[np.ndarray, "n 2"]) -> Points:
    """Frontmost surface points at given x, y."""
    origins = np.concatenate([xy, np.full((len(xy), 1), -60.0)], axis=1)
    return cast_inward(origins, np.tile([0.0, 0.0, 1.0], (len(xy), 1)), start=140.0)


def chart_of(points: Points) -> Points:
    """Chart directions of points above the neck, outside the mouth's opened chart and the ears."""
    return normalized(points - RAY_CENTER)


def mouth_plane(chart: Points) -> Float[np.ndarray, "n 2"]:
    """Where the ray meets the plane of the mouth, relative to the line between the lips; far off for other rays."""
    forward = np.maximum(chart[:, 2], 0.15)
    plane = RAY_CENTER[:2] + chart[:, :2] / forward[:, None] * (MOUTH[2] - RAY_CENTER[2])
    return np.stack([plane[:, 0], plane[:, 1] - lip_line(plane[:, 0])], axis=1)


def from_mouth_plane(xy: Float[np.ndarray, "n 2"]) -> Points:
    """Inverse of `mouth_plane`."""
    height = xy[:, 1] + lip_line(xy[:, 0])
    return normalized(np.stack([xy[:, 0], height, np.full(len(xy), MOUTH[2])], axis=1) - RAY_CENTER)


@functools.cache
def _lip_line_fit() -> np.ndarray:
    x = np.linspace(0.0, MOUTH_HALF_WIDTH, 9)
    points = cast_frontal(np.stack([x, MOUTH[1] - 1.0 * (x / MOUTH_HALF_WIDTH) ** 2], axis=1))
    ray = points - RAY_CENTER
    plane = RAY_CENTER[:2] + ray[:, :2] / ray[:, 2:] * (MOUTH[2] - RAY_CENTER[2])
    powers = np.stack([np.ones(9), plane[:, 0] ** 2], axis=1)
    fit = np.linalg.lstsq(powers, plane[:, 1], rcond=None)[0]
    return np.array([*fit, plane[-1, 0]])


def lip_line(x: np.ndarray) -> np.ndarray:
    """Height on the mouth plane of the line between the lips, flat beyond the corners."""
    offset, bend, end = _lip_line_fit()
    return offset + bend * np.minimum(np.abs(x), 1.6 * end) ** 2


def mouth_half_width() -> float:
    """Half width of the mouth's ellipse on the mouth plane."""
    return float(_lip_line_fit()[2])


def in_mouth(chart: Points, distance: float) -> np.ndarray:
    """Whether directions lie inside the mouth's loop at `distance` (see `mouth_curve`)."""
    half = np.array([mouth_half_width() + distance, MOUTH_OPENING + distance])
    return (np.sum((mouth_plane(chart) / half) ** 2, axis=1) < 1.0) & (chart[:, 2] > 0.3)


def _close_mouth(chart: Points) -> Points:
    """Chart directions after the mouth's ellipse is closed to the lip line (identity far from the mouth)."""
    xy = mouth_plane(chart)
    opening = MOUTH_OPENING * np.sqrt(np.maximum(1.0 - (xy[:, 0] / mouth_half_width()) ** 2, 0.0))
    height = np.abs(xy[:, 1])
    closed = np.maximum(height - opening, 0.0) * (1.0 + opening / MOUTH_BLEND)
    inside = (height < opening + MOUTH_BLEND) & (chart[:, 2] > 0.3) & (opening > 0)
    moved = from_mouth_plane(np.stack([xy[:, 0], np.sign(xy[:, 1]) * closed], axis=1))
    return np.where(inside[:, None], moved, chart)


def _rays(chart: Points) -> tuple[Points, Points]:
    angle = np.arccos(np.clip(chart @ NECK_AXIS, -1.0, 1.0))
    descent = np.clip((NECK_ANGLE - angle) / (NECK_ANGLE - CUT_ANGLE), 0.0, 1.0) ** 1.4
    radial = normalized(chart - (chart @ NECK_AXIS)[:, None] * NECK_AXIS + 1e-12)
    dip = np.where(descent > 0, (1 - descent) * (np.pi / 2 - angle) + descent * 0.09, np.pi / 2 - angle)
    directions = np.cos(dip)[:, None] * radial + np.sin(dip)[:, None] * NECK_AXIS
    return RAY_CENTER + descent[:, None] * (NECK_END - RAY_CENTER), directions


def skin(chart: Points) -> Points:
    """Skin points in the face frame of chart directions."""
    origins, directions = _rays(_close_mouth(chart))
    points = cast_inward(origins, directions)
    radius, angle = ear_coordinates(chart)
    on_ear = radius < 1.0
    if np.any(on_ear):
        side = np.sign(chart[on_ear, 0])[:, None] * np.array([1.0, 0, 0]) + np.array([0, 1.0, 1.0])
        points[on_ear] = side * _ear(side * points[on_ear], radius[on_ear], angle[on_ear])
    return points


def ear_coordinates(chart: Points) -> tuple[np.ndarray, np.ndarray]:
    """Polar coordinates (1 on the ear's root line, angle 0 backwards, pi/2 up); radius 9 away from the ears."""
    sideways = np.maximum(np.abs(chart[:, 0]), 0.3)
    plane = RAY_CENTER[[2, 1]] + chart[:, [2, 1]] / sideways[:, None] * EAR_PLANE
    c, s = np.cos(EAR_TILT), np.sin(EAR_TILT)
    offset = (plane - EAR_CENTER) @ np.array([[-c, s], [-s, -c]]).T * [1, -1] / EAR_ROOT
    radius = np.where(np.abs(chart[:, 0]) > 0.3, np.linalg.norm(offset, axis=1), 9.0)
    return radius, np.arctan2(offset[:, 1], offset[:, 0])


def ear_chart(radius: np.ndarray, angle: np.ndarray) -> Points:
    """Chart directions of left-ear coordinates: inverse of `ear_coordinates`."""
    offset = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None] * EAR_ROOT * [1, -1]
    c, s = np.cos(EAR_TILT), np.sin(EAR_TILT)
    plane = EAR_CENTER + offset @ np.array([[-c, s], [-s, -c]])
    ray = np.stack([np.full(len(radius), EAR_PLANE), plane[:, 1], plane[:, 0]], axis=1)
    return normalized(ray - np.array([0, *RAY_CENTER[1:]]))


# Section of the ear from its root (1) over the helix (about 0.75) into the concha (0): share of the rim's outline, and
# height above the ear's plane in millimetres.
_EAR_RADIUS = np.array([0.0, 0.18, 0.34, 0.42, 0.50, 0.60, 0.70, 0.76, 0.83, 0.91, 1.0])
_EAR_OUTLINE = np.array([0.0, 0.28, 0.46, 0.52, 0.64, 0.84, 0.93, 1.0, 0.99, 0.82, 0.8])
_EAR_HEIGHT = np.array([-11.0, -11.0, -8.0, -1.0, 0.5, -2.5, 1.0, 0.0, -3.0, -6.0, -9.0])


def _ear(base: Points, radius: np.ndarray, angle: np.ndarray) -> Points:
    """The left ear's shell: its section swept around the outline, melting into the head at the root."""
    back = np.array([0.42, -0.05, -0.9])
    up = np.array([0.12, 0.98, -0.17])
    normal = normalized(np.cross(up, back))
    normal = normal * np.sign(normal[0])
    center = np.array([80.0, -17.0, -88.0])
    outline = np.interp(radius, _EAR_RADIUS, _EAR_OUTLINE)
    height = np.interp(radius, _EAR_RADIUS, _EAR_HEIGHT)
    cos, sin = np.cos(angle), np.sin(angle)
    lobe = np.maximum(-sin, 0.0) ** 2
    wide = (16.5 + 3.0 * cos) * (1.0 - 0.1 * lobe)
    shell = (
        center + (outline * wide * cos)[:, None] * back + (outline * 30.5 * sin * (1.0 + 0.12 * cos**2))[:, None] * up
    )
    shell = shell + (height * (1 - 0.6 * lobe))[:, None] * normal
    melt = np.clip((radius - 0.83) / 0.17, 0.0, 1.0)
    front = np.clip(-cos, 0.0, 1.0) ** 1.5 * np.clip(
        (radius - 0.55) / 0.3, 0, 1
    )  # the ear's front edge lies on the cheek
    weight = np.maximum(melt**2 * (3 - 2 * melt), front)[:, None]
    return (1 - weight) * shell + weight * base


class Opening(NamedTuple):
    """A closed curve around an opening, point k at angle 2 pi k / n: chart directions and skin points."""

    chart: Points
    points: Points


def lid_curve(count: int, distance: float) -> Opening:
    """The left eye's lid margin (`distance` 0) or the loop `distance` mm outside of it, from the outer corner up."""
    angle = 2 * np.pi * np.arange(count) / count
    middle = (EYE_INNER_CORNER + EYE_OUTER_CORNER) / 2
    half = (EYE_OUTER_CORNER - EYE_INNER_CORNER) / 2
    along = np.cos(angle) * (1 + distance / half[0])
    height = np.where(np.sin(angle) > 0, LID_UPPER + distance, -LID_LOWER + distance) * np.sin(angle)
    skew = np.where(np.sin(angle) > 0, -1.5, 1.5) * np.sin(angle) ** 2  # upper margin peaks inwards, lower outwards
    xy = middle + along[:, None] * half + np.stack([skew, height], axis=1)
    points = cast_frontal(xy)
    return Opening(chart_of(points), points)


def mouth_angles(count: int) -> np.ndarray:
    """Angles on the mouth's ellipse, evenly spaced along its outline, from the left corner up; symmetric."""
    fine = np.linspace(0.0, np.pi / 2, 400)
    step = np.hypot(mouth_half_width() * np.sin(fine), 1.6 * MOUTH_OPENING * np.cos(fine))
    length = np.concatenate([[0.0], np.cumsum((step[1:] + step[:-1]) / 2)])
    quarter = np.interp(np.linspace(0, length[-1], count // 4 + 1), length, fine)
    half = np.concatenate([quarter, np.pi - quarter[-2::-1]])
    return np.concatenate([half, 2 * np.pi - half[-2:0:-1]])


def mouth_curve(angles: np.ndarray, distance: float) -> Opening:
    """The lip line as a loop of the opened chart (`distance` 0) or loops around it, counter-clockwise from the left."""
    half_width, half_height = mouth_half_width() + distance, MOUTH_OPENING + distance
    xy = np.stack([half_width * np.cos(angles), half_height * np.sin(angles)], axis=1)
    xy[np.isclose(np.cos(angles), 0.0), 0] = 0.0
    chart = from_mouth_plane(xy)
    return Opening(chart, skin(chart))


def lid_strip(points: Points, depth: float) -> Points:
    """The lid margin's inner side: margin points of the left eye moved towards the eyeball's inside, depth 0 to 1."""
    offset = points - EYE
    radius = np.linalg.norm(offset, axis=1, keepdims=True)
    return EYE + offset / radius * (radius + depth * (np.minimum(radius * 0.8, 9.0) - radius))


def mouth_bag(points: Points, angle: np.ndarray, depth: float) -> Points:
    """Inner mouth: lip-line points moved inwards, depth 0 to 1, spreading a little up and down."""
    inner = MOUTH + np.array([0.0, 0.0, -38.0])
    spread = 7.0 * np.sin(0.8 * np.pi * depth) * np.sin(angle)
    shrink = 1.0 - 0.75 * depth
    moved = points + depth * (inner - points)
    moved[:, 0] = points[:, 0] * shrink
    moved[:, 1] = moved[:, 1] + spread
    return moved
