"""A folder with the official layout of NoW, made of people that the tiny benchmark's predictor knows."""

import pickle
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from tiny_benchmark import FRAMES, GRAY_STEP, TinyBenchmark

RELEASE = Path("NoW_Dataset/final_release_version")
# Line of the list -> record of the tiny benchmark, which is its brightness. The last two are broken.
IMAGES = {
    "FaMoS_0/multiview_neutral/IMG_0001.jpg": 0,
    "FaMoS_0/multiview_expressions/IMG_0002.jpg": 1,
    "FaMoS_1/multiview_occlusions/IMG.0003.jpg": 3,  # a dot in the name
    "FaMoS_1/selfie/IMG_0004.jpg": 4,
    "FaMoS_1/selfie/IMG_0005.jpg": 5,
    "FaMoS_2/selfie/IMG_0006.jpg": 2,
}
BROKEN_BOX, WITHOUT_SCAN = list(IMAGES)[-2:]
GOOD = list(IMAGES)[:-2]
PHOTOGRAPH, BOX = 120, {"left": 40, "right": 80, "top": 45, "bottom": 85}


def write_now_folder(directory: Path, tiny: TinyBenchmark) -> Path:
    (directory / "imagepathsvalidation.txt").write_text("\n".join(IMAGES) + "\n")
    for line, record in IMAGES.items():
        photograph = directory / RELEASE / "iphone_pictures" / line
        photograph.parent.mkdir(parents=True, exist_ok=True)
        gray = np.full((PHOTOGRAPH, PHOTOGRAPH, 3), record * GRAY_STEP, np.uint8)
        cv2.imwrite(str(photograph), gray, [cv2.IMWRITE_JPEG_QUALITY, 100])
        box = (directory / RELEASE / "detected_face" / line).with_suffix(".npy")
        box.parent.mkdir(parents=True, exist_ok=True)
        np.save(box, np.array(BOX, dtype=object), allow_pickle=True)
        if line == BROKEN_BOX:
            box.write_bytes(box.read_bytes()[:-20])
    for number in range(2):
        _write_scan(directory, f"FaMoS_{number}", number, tiny)
    return directory


def _write_scan(directory: Path, subject: str, number: int, tiny: TinyBenchmark) -> None:
    """In millimetres, somewhere in space, with texture coordinates and colours, as scanners write them."""
    turn = Rotation.from_rotvec([0.3, -1.2, 0.5 + number]).as_matrix()
    place = np.array([30.0, -400.0, 900.0])
    truth = tiny.truth
    vertices = 1000 * truth.neutral[number].astype(np.float64) @ turn.T + place
    landmarks = 1000 * truth.landmarks7_neutral[number].astype(np.float64) @ turn.T + place
    lines = ["# scan", "mtllib scan.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f} 0.5 0.5 0.5" for x, y, z in vertices]
    lines += ["vt 0 0", "vt 1 0", "vt 0 1"]
    lines += [f"f {a}/1 {b}/2 {c}/3" for a, b, c in truth.faces + 1]
    folders = [directory / "scans" / subject, directory / "scans_lmks_onlypp" / subject]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[0] / f"{subject}.obj").write_text("\n".join(lines))
    points = "".join(
        f'  <point x="{x:.6f}" y="{y:.6f}" z="{z:.6f}" active="1" name="{k}"/>\n'
        for k, (x, y, z) in enumerate(landmarks)
    )
    header = '<!DOCTYPE PickedPoints>\n<PickedPoints>\n <DocumentData><User name="a"/></DocumentData>\n'
    (folders[1] / f"{subject}_picked.pp").write_text(f"{header}{points}</PickedPoints>\n")


def malicious_box(path: Path) -> None:
    """A pickle that would write a file if it were run."""

    class Run:
        def __reduce__(self):
            return (open, (str(path) + ".run", "w"))

    header = np.lib.format.magic(1, 0)
    text = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    text = text.ljust(117) + "\n"
    path.write_bytes(header + len(text).to_bytes(2, "little") + text.encode() + pickle.dumps(Run()))


def person_of(record: int) -> int:
    return record // FRAMES
