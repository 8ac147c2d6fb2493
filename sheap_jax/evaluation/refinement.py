"""Alignment of a predicted mesh to a scan, as the NoW benchmark does it, without a general optimiser.

NoW starts from Procrustes on seven landmarks and then minimises the sum of squared distances of the scan's points to
the mesh over scale, rotation and translation. Ours finds the same minimum with Gauss-Newton: the gradient of a point's
distance is the unit vector n from its closest point c, so that one step solves the linear least squares problem

    min over (w, v, s)  sum_i (n_i . (p_i - c_i) - n_i . (w x (c_i - o) + v + s (c_i - o)))^2

with the scan's centre o. A step that does not lower the sum is tried again with damping (Levenberg-Marquardt).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from sheap_jax.evaluation.alignment import Similarity
from sheap_jax.evaluation.point_to_surface import Surface

MAX_STEPS = 30
TOLERANCE = 1e-6  # relative fall of the mean squared distance at which the iteration ends
EXACT = 1e-7  # distance in units of the scan's size that counts as none
CANDIDATES = 8  # triangles tried per point during the iteration; the error itself is measured exactly
COARSE_POINTS = 1000  # points of the scan that steer the first iterations


class Refinement(NamedTuple):
    """Where a mesh lies best on a scan."""

    motion: Similarity  # from the mesh to the scan
    steps: int
    converged: bool


def refine(
    scan: Float[np.ndarray, "n 3"],
    surface: Surface,
    start: Similarity,
    *,
    with_scale: bool,
    max_points: int | None = COARSE_POINTS,
) -> Refinement:
    """The motion of the mesh, near `start`, with the least mean squared distance of the scan's points.

    At most `max_points` evenly chosen points steer it (None: all points). It first settles on a tenth of them, but on
    COARSE_POINTS at least.
    """
    max_points = len(scan) if max_points is None else max_points
    if max_points > COARSE_POINTS and len(scan) > COARSE_POINTS:
        fewer = max(COARSE_POINTS, min(max_points, len(scan)) // 10)
        start = refine(scan, surface, start, with_scale=with_scale, max_points=fewer).motion
    steering = scan[:: -(-len(scan) // max_points)]
    center = steering.mean(axis=0)
    motion, matches = start, _match(steering, surface, start)
    negligible = (EXACT * np.ptp(steering, axis=0).max()) ** 2
    damping = 1e-6
    for step in range(1, MAX_STEPS + 1):
        candidate = _gauss_newton(motion, matches, center, damping=damping, with_scale=with_scale)
        found = _match(steering, surface, candidate)
        gain = 1 - found.energy / matches.energy if matches.energy > 0 else 0.0
        if gain < 0:
            damping = 10 * max(damping, 1e-3)
            if damping > 1e3:
                return Refinement(motion, step, True)
            continue
        motion, matches, damping = candidate, found, damping / 10
        if gain < TOLERANCE or matches.energy < negligible:
            return Refinement(motion, step, True)
    return Refinement(motion, MAX_STEPS, False)


class _Matches(NamedTuple):
    """Closest points in the scan's frame."""

    closest: Float[np.ndarray, "n 3"]
    directions: Float[np.ndarray, "n 3"]  # unit vectors along which the distance grows
    residuals: Float[np.ndarray, "n"]  # signed along the directions
    energy: float  # mean squared distance


def _match(scan: Float[np.ndarray, "n 3"], surface: Surface, motion: Similarity) -> _Matches:
    found = surface.closest_of_few(motion.apply_inverse(scan), candidates=CANDIDATES)
    closest = motion.apply(found.points)
    offset = scan - closest
    distance = np.linalg.norm(offset, axis=1)
    # A point on the surface has no direction of its own; there the triangle's normal is the limit.
    touching = distance <= 1e-9 * (np.ptp(scan) + 1e-300)
    directions = np.where(
        touching[:, None],
        surface.normals[found.faces] @ motion.rotation.T,
        offset / np.where(touching, 1, distance)[:, None],
    )
    residuals = np.einsum("na,na->n", directions, offset)
    return _Matches(closest, directions, residuals, float(np.mean(distance**2)))


def _gauss_newton(
    motion: Similarity, matches: _Matches, center: Float[np.ndarray, "3"], *, damping: float, with_scale: bool
) -> Similarity:
    """`motion` after one damped step about `center`."""
    arm = matches.closest - center
    # Lengths in units of the scan's size: angle, shift and scale then have like columns, and one damping serves all.
    size = np.sqrt(np.mean(np.sum(arm**2, axis=1)))
    columns = [np.cross(arm, matches.directions), size * matches.directions]
    if with_scale:
        columns.append(np.einsum("na,na->n", arm, matches.directions)[:, None])
    jacobian = np.concatenate(columns, axis=1) / size
    normal = jacobian.T @ jacobian / len(arm)
    gradient = jacobian.T @ matches.residuals / size / len(arm)
    update = np.linalg.solve(normal + damping * np.eye(len(normal)), gradient)
    rotation = Rotation.from_rotvec(update[:3]).as_matrix()
    scale = float(np.exp(update[6])) if with_scale else 1.0  # stays positive
    turn = scale * rotation
    return Similarity(
        motion.scale * scale,
        rotation @ motion.rotation,
        turn @ (motion.translation - center) + center + size * update[3:6],
    )
