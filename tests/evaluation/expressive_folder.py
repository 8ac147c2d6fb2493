"""A folder of the expressive benchmark, made of people that the tiny benchmark's predictor knows."""

from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation
from tiny_benchmark import GRAY_STEP, TinyBenchmark

FRAMES = [f"person{k // 3}/{k % 3:03d}" for k in range(6)]


def write_expressive_folder(root: Path, tiny: TinyBenchmark) -> Path:
    """Posed scans in millimetres somewhere in space; the last frame has no scan."""
    truth = tiny.truth
    (root / "frames.txt").write_text("\n".join(FRAMES))
    turn = Rotation.from_rotvec([0.4, 0.2, 3.0]).as_matrix()
    for k, name in enumerate(FRAMES):
        for part in ("images", "scans", "landmarks", "landmarks2d"):
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
        gray = np.full((90, 90, 3), k * GRAY_STEP, np.uint8)
        cv2.imwrite(str(root / f"images/{name}.png"), gray)
        if k % 2:  # these are cropped by their landmarks, the others are crops
            np.save(root / f"landmarks2d/{name}.npy", np.linspace(35, 55, 136).reshape(68, 2))
        if k < 5:
            scan = 1000 * truth.posed[k] @ turn.T + 70
            trimesh.Trimesh(scan, truth.faces, process=False).export(root / f"scans/{name}.ply")
        np.savetxt(root / f"landmarks/{name}.txt", 1000 * truth.landmarks7_posed[k] @ turn.T + 70)
    return root
