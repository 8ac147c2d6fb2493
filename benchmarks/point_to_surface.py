"""Speed of the distance from a dense scan to a mesh, and how long NoW takes; prints one JSON object.

    python benchmarks/point_to_surface.py --scan ../shared/data/scans/lee_perry_smith.npz

The scan is sampled to 60,000 points, the mesh is the fine embedded head (about 10,000 triangles), laid on
the scan. Ours and trimesh take turns on one core, and processor time is compared: other work on the machine then
disturbs both alike. Needs trimesh's search tree: `pip install rtree`.

The scan is "Infinite, 3D Head Scan by Lee Perry-Smith", CC BY 3.0, based on a work at www.triplegangers.com.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np
from timing import require

from sheap_jax.evaluation.alignment import procrustes
from sheap_jax.evaluation.geometry_scores import Mesh, Scan, scan_errors
from sheap_jax.evaluation.point_to_surface import Surface
from sheap_jax.evaluation.predictions import pose_heads
from sheap_jax.evaluation.scans import STEERING_POINTS, face_region
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import mean_params

TURNS = 3
TRIMESH_POINTS = 12_000  # it is slow: its time per point is scaled up
NOW_IMAGES, NOW_POINTS, CORES = 2_054, 100_000, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", required=True, help="lee_perry_smith.npz")
    parser.add_argument("--points", type=int, default=60_000)
    options = parser.parse_args()
    require("trimesh", "rtree")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with np.load(options.scan) as data:
        vertices, faces, landmarks = data["vertices"].astype(np.float64), data["faces"], data["landmarks7"]
    mesh, triangles = head_on_scan(landmarks)
    points = face_points(vertices, faces, landmarks, NOW_POINTS)
    distances = compare_distances(points[:: max(1, len(points) // options.points)][: options.points], mesh, triangles)
    print(json.dumps(distances | project_now(points, mesh, triangles, landmarks), indent=1))


def head_on_scan(landmarks: np.ndarray) -> tuple[Mesh, np.ndarray]:
    """The fine embedded head (about 10,000 triangles), moved onto the scan by its landmarks, in millimetres."""
    model = embedded_head(detail="fine")
    (head,) = pose_heads(model, mean_params(model, 1)).meshes()
    motion = procrustes(head.landmarks, landmarks, with_scale=True)
    vertices, triangles = motion.apply(head.vertices), np.asarray(model.faces)
    return Mesh(vertices, motion.apply(head.landmarks)), triangles


def face_points(vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, count: int) -> np.ndarray:
    """That many points on the face of a scan, even over its surface."""
    import trimesh

    scan = trimesh.Trimesh(vertices, faces, process=False)
    share = face_region(scan.triangles_center, landmarks) @ scan.area_faces / scan.area
    points, _ = trimesh.sample.sample_surface(scan, int(1.1 * count / share), seed=0)
    points = points[face_region(points, landmarks)]
    return np.asarray(points)[:count]


def compare_distances(points: np.ndarray, mesh: Mesh, triangles: np.ndarray) -> dict[str, float]:
    """Seconds and agreement. Preparing the mesh counts for both."""
    import trimesh

    some = points[:: len(points) // TRIMESH_POINTS][:TRIMESH_POINTS]

    def ours() -> np.ndarray:
        return Surface(mesh.vertices, triangles).closest(points).distances

    def theirs() -> np.ndarray:
        surface = trimesh.Trimesh(mesh.vertices, triangles, process=False)
        return trimesh.proximity.closest_point(surface, some)[1]

    times = [(seconds(ours), seconds(theirs) * len(points) / len(some)) for _ in range(TURNS)]
    mine, other = np.min(times, axis=0)
    difference = Surface(mesh.vertices, triangles).closest(some).distances - theirs()
    return {
        "points": len(points),
        "triangles": len(triangles),
        "median_distance_mm": round(float(np.median(ours())), 3),
        "ours_s": round(float(mine), 3),
        "trimesh_s": round(float(other), 3),
        "ratio": round(float(other / mine), 1),
        "largest_difference_mm": float(np.abs(difference).max()),
    }


def project_now(points: np.ndarray, mesh: Mesh, triangles: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Processor time of whole errors, similarity and rigid, against a scan of 100,000 points in the face."""
    scan, head = Scan(points / 1000, landmarks / 1000), Mesh(mesh.vertices / 1000, mesh.landmarks / 1000)

    def score(rigid: bool) -> Callable[[], object]:
        return lambda: scan_errors(scan, head, triangles, rigid=rigid, max_points=STEERING_POINTS)

    one, both = (min(seconds(score(rigid)) for _ in range(TURNS)) for rigid in (False, True))
    minutes = NOW_IMAGES / CORES / 60
    return {
        "now_scan_points": len(points),
        "similarity_s": round(one, 3),
        "similarity_and_rigid_s": round(both, 3),
        "now_similarity_minutes": round(one * minutes, 1),
        "now_similarity_and_rigid_minutes": round(both * minutes, 1),
    }


def seconds(function: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    main()
