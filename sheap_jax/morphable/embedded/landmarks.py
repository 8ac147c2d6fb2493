"""The 68 iBUG landmarks of the embedded head and its jaw contour by yaw, as points on mesh faces.

Places are given in the face frame by hand. The jaw contour of a yaw is the visible silhouette: every jaw landmark
slides on the arc from the mouth to its place at the jaw's edge, to the point that sticks out farthest in the view.
"""

import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import MOUTH, Points
from sheap_jax.morphable.embedded.mesh import HeadMesh
from sheap_jax.morphable.embedded.surface import (
    cast_frontal,
    chart_of,
    from_mouth_plane,
    lid_curve,
    mouth_curve,
    mouth_half_width,
    normalized,
    skin,
)
from sheap_jax.morphable.model import SurfacePoints

# Right half of the jaw's edge from the ear to the chin, subject's right (x negative), then mirrored: iBUG 0-8.
JAW = np.array(
    [
        [-72, 0, -44], [-71, -21, -42], [-69, -41, -38], [-64, -60, -32], [-56, -79, -22],
        [-44, -95, -8], [-31, -104, 5], [-16, -109, 14], [0, -111.5, 17],
    ], dtype=np.float64,
)  # fmt: skip
BROW = np.array([[-55, 15], [-47, 21.5], [-36.5, 23], [-24, 21.5], [-12.5, 18]])  # right, 17-21
NOSE = np.array([[0, 0.5], [0, -10.5], [0, -21.5], [0, -33], [-12, -46], [-6, -47.5], [0, -48.5]])  # 27-33, right half
YAW_ROWS = 79  # 0 to 39 degrees, then -1 to -39


def locate(mesh: HeadMesh, chart: Points) -> SurfacePoints:
    """Skin faces pierced by chart directions. A direction just outside an opening's edge takes the nearest face."""
    skin_faces = np.flatnonzero(np.all(mesh.part[mesh.faces] == 0, axis=1))
    inverse = np.linalg.inv(np.swapaxes(mesh.chart[mesh.faces[skin_faces]], 1, 2))
    chosen, weights = [], []
    for direction in chart:
        solution = inverse @ direction
        solution = solution / np.maximum(np.abs(solution).sum(axis=1, keepdims=True), 1e-12)
        best = int(np.argmax(solution.min(axis=1)))
        inside = np.maximum(solution[best], 0.0)
        chosen.append(skin_faces[best])
        weights.append(inside / inside.sum())
    return SurfacePoints(np.array(chosen), np.array(weights))


def landmark_chart() -> Float[np.ndarray, "68 3"]:
    """Chart directions of the 68 landmarks, iBUG order."""
    brows = chart_of(cast_frontal(BROW))
    nose = chart_of(cast_frontal(NOSE))
    lids = lid_curve(360, 0.0).chart
    left_eye = lids[[180, 120, 60, 0, 300, 240]]  # inner corner, upper, outer corner, lower: 42-47
    right_eye = left_eye[[3, 2, 1, 0, 5, 4]] * [-1, 1, 1]  # 36-41
    jaw = chart_of(JAW)
    half = [jaw, jaw[7::-1] * [-1, 1, 1], brows, brows[::-1] * [-1, 1, 1], nose, nose[5:3:-1] * [-1, 1, 1]]
    return np.concatenate([*half, right_eye, left_eye, _lips()])


def _lips() -> Float[np.ndarray, "20 3"]:
    """48-67: outer contour from the right corner over the upper lip, then the inner contour."""
    w = mouth_half_width()
    outer = from_mouth_plane(
        np.array([[-w - 1, 0], [-16, 10.6], [-6.5, 12.6], [0, 11.6], [6.5, 12.6], [16, 10.6], [w + 1, 0],
                  [16.5, -11.2], [8, -14.0], [0, -14.6], [-8, -14.0], [-16.5, -11.2]])
    )  # fmt: skip
    inner = mouth_curve(np.radians([180, 112, 90, 68, 0, 292, 270, 248]), 0.0).chart
    inner[0] = from_mouth_plane(np.array([[-w + 1.5, 0.0]]))[0] * 0.3 + inner[0] * 0.7
    inner[4] = inner[0] * [-1, 1, 1]
    return np.concatenate([outer, normalized(inner)])


def contour_table(mesh: HeadMesh) -> SurfacePoints:
    """Faces [79, 17] and barycentrics [79, 17, 3] of the jaw contour; row as in `model.contour_row`."""
    jaw = np.concatenate([JAW, JAW[7::-1] * [-1, 1, 1]])
    ends, start = chart_of(jaw), chart_of(MOUTH[None] + [0, -2, 0])[0]
    share = np.linspace(0.35, 1.0, 66)[:, None, None]
    arcs = normalized((1 - share) * start + share * ends)  # [66, 17, 3]
    points = skin(arcs.reshape(-1, 3)).reshape(arcs.shape)
    outward = normalized((jaw - MOUTH)[:, :2])
    degrees = np.concatenate([np.arange(40), -np.arange(1, 40)])
    charts = []
    for yaw in np.radians(degrees):
        view_x = np.cos(yaw) * points[..., 0] + np.sin(yaw) * points[..., 2]
        reach = view_x * outward[:, 0] + points[..., 1] * outward[:, 1]
        charts.append(arcs[np.argmax(reach, axis=0), np.arange(17)])
    found = locate(mesh, np.concatenate(charts))
    return SurfacePoints(found.faces.reshape(YAW_ROWS, 17), found.barycentrics.reshape(YAW_ROWS, 17, 3))
