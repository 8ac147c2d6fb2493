"""Scan-to-mesh errors of many heads: aligned, measured, pooled.

As in the NoW benchmark, the errors of all points of all images are joined before median, mean and standard deviation
are taken. Threads share the work: heads are independent, and NumPy and the k-d tree release the interpreter lock.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.evaluation.alignment import Similarity, procrustes
from sheap_jax.evaluation.point_to_surface import Surface
from sheap_jax.evaluation.refinement import COARSE_POINTS, refine

# NoW's seven landmarks among the 68: outer and inner corners of the right eye, inner and outer of the left, nose base,
# right and left mouth corner.
NOW_LANDMARKS = np.array([36, 39, 42, 45, 33, 48, 54])
MILLIMETRES = 1000.0  # per metre

Item = TypeVar("Item")
Result = TypeVar("Result")


class Scan(NamedTuple):
    """What the truth says of one head, metres."""

    points: Float[np.ndarray, "n 3"]
    landmarks: Float[np.ndarray, "7 3"]


class Mesh(NamedTuple):
    """A predicted head, metres."""

    vertices: Float[np.ndarray, "v 3"]
    landmarks: Float[np.ndarray, "7 3"]


class ScanErrors(NamedTuple):
    """Distances of every scan point to the mesh in mm, after each kind of alignment."""

    similarity: Float[np.ndarray, "n"]
    rigid: Float[np.ndarray, "n"]  # empty where the mesh has no known unit


class Statistics(NamedTuple):
    """Of the pooled errors; the standard deviation is that of the population, as in NoW's tables."""

    median: float
    mean: float
    std: float


def scan_errors(
    scan: Scan, mesh: Mesh, faces: Int[np.ndarray, "f 3"], *, rigid: bool = True, max_points: int | None = COARSE_POINTS
) -> ScanErrors:
    """Errors of one head: landmark alignment, refinement, distances (NoW's protocol and its metrical variant).

    The rigid search starts from the similarity's optimum at scale 1 and not from the landmarks: it ends in the same
    place after a third of the steps. Without `rigid` it is left out, and the mesh may have any unit. `max_points` of
    the scan (None: all) steer the refinement; all points are measured.
    """
    surface = Surface(mesh.vertices, faces)

    def distances(motion: Similarity) -> Float[np.ndarray, "n"]:
        return MILLIMETRES * motion.scale * surface.closest(motion.apply_inverse(scan.points)).distances

    def refined(start: Similarity, *, with_scale: bool) -> Similarity:
        return refine(scan.points, surface, start, with_scale=with_scale, max_points=max_points).motion

    similarity = refined(procrustes(mesh.landmarks, scan.landmarks, with_scale=True), with_scale=True)
    if not rigid:
        return ScanErrors(distances(similarity), np.zeros(0))
    fixed = refined(similarity.without_scale(scan.points.mean(axis=0)), with_scale=False)
    return ScanErrors(distances(similarity), distances(fixed))


def errors_of_all(
    pairs: Sequence[tuple[Scan, Mesh]],
    faces: Int[np.ndarray, "f 3"],
    *,
    max_points: int = COARSE_POINTS,
    progress: Callable[[Iterable], Iterable] = iter,
    threads: int | None = None,
) -> list[ScanErrors]:
    """`scan_errors` of every pair; the meshes share `faces`. `progress` wraps the iteration, for a bar."""

    def score(pair: tuple[Scan, Mesh]) -> ScanErrors:
        return scan_errors(*pair, faces, max_points=max_points)

    return in_threads(score, pairs, progress=progress, threads=threads)


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    threads: int | None = None,
) -> list[Result]:
    """`function` of every item, in order, on all cores; `progress` wraps the iteration, for a bar."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        jobs = [pool.submit(function, item) for item in items]
        return [job.result() for job in progress(jobs)]


def pool(errors: Sequence[ScanErrors]) -> ScanErrors:
    """The errors of all points of all heads."""
    return ScanErrors(*(np.concatenate(kind) for kind in zip(*errors, strict=True)))


def statistics(errors: Float[np.ndarray, "n"]) -> Statistics:
    return Statistics(float(np.median(errors)), float(np.mean(errors)), float(np.std(errors)))


def cumulative_curve(errors: Float[np.ndarray, "n"], thresholds: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Share of the points in percent whose error is at most each threshold."""
    return 100.0 * np.searchsorted(np.sort(errors), thresholds, side="right") / len(errors)
