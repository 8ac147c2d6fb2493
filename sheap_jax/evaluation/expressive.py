"""Expressive heads: NoW's metric on posed meshes against posed scans.

We have not found the method's own protocol on NeRSemble. Ours needs a folder

    frames.txt                            lines person/frame, without a suffix
    images/<person>/<frame>.jpg or .png   the photograph
    scans/<person>/<frame>.obj or .ply    the scan of that moment, millimetres, any coordinates
    landmarks/<person>/<frame>.npy, .txt or .pp    NoW's seven landmarks on the scan
    landmarks2d/<person>/<frame>.npy      optional: 68 landmarks in the photograph, [68, 2] pixels

With `landmarks2d` the photograph is cropped as in training; without, it has to be such a crop already, square. The
mesh is scored as the network predicts it, with expression and pose; alignment is that of NoW. Beside it stand the mean
head, and the predicted person without expression: what the expression is worth.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.cropping import Framing, crop_box, crop_image, picture_size
from sheap_jax.data.photographs import read_photograph
from sheap_jax.evaluation.geometry_report import geometry_comparisons, geometry_curves, values_per_image
from sheap_jax.evaluation.geometry_scores import Scan, ScanErrors, errors_of_all, in_threads
from sheap_jax.evaluation.predictions import (
    MEAN_HEAD,
    NO_EXPRESSION,
    OURS,
    HeadGeometry,
    NetworkUnderTest,
    expressionless,
    pose_heads,
)
from sheap_jax.evaluation.report import BenchmarkReport, PerImage
from sheap_jax.evaluation.scans import STEERING_POINTS, load_scan
from sheap_jax.files.array_files import read_npy
from sheap_jax.files.places import first_existing
from sheap_jax.files.regular import read_whole
from sheap_jax.morphable.model import mean_params

KIND = "expressive heads"
SUFFIXES = {
    "images": (".jpg", ".jpeg", ".png"),
    "scans": (".obj", ".ply"),
    "landmarks": (".npy", ".txt", ".pp"),
    "landmarks2d": (".npy",),
}


class ScannedFrame(NamedTuple):
    """One photograph and the scan of the same moment."""

    name: str  # person/frame
    image: UInt8[np.ndarray, "size size 3"]
    scan: Scan

    @property
    def person(self) -> str:
        return self.name.split("/")[0]


def evaluate_expressive(
    predictor: NetworkUnderTest,
    directory: str | Path,
    *,
    image_size: int,
    allow_missing: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Score a network on posed scans.

    Args:
        predictor: the network.
        directory: laid out as above.
        image_size: pixels of the square images that the network takes.
        allow_missing: leave out frames whose files are missing or damaged, and list them; otherwise an error.
        progress: wraps the longest iteration, for a bar.

    Raises FileNotFoundError or ValueError that names what is missing or damaged.
    """
    frames, missing = load_frames(directory, image_size=image_size, framing=predictor.framing)
    if missing and (not allow_missing or not frames):
        raise ValueError(
            f"{len(missing)} of {len(missing) + len(frames)} frames of {directory} cannot be scored "
            f"(--allow-missing leaves them out):\n  " + "\n  ".join(missing[:20])
        )
    images = jnp.asarray(np.stack([frame.image for frame in frames]), jnp.float32) / 255.0
    model, params = predictor.model, predictor(images)
    heads = {
        OURS: pose_heads(model, params),
        MEAN_HEAD: pose_heads(model, mean_params(model, len(frames))),
        NO_EXPRESSION: pose_heads(model, expressionless(model, params)),
    }
    methods = score_heads(frames, heads, np.asarray(model.faces), progress=progress)
    errors = {KIND: methods}
    people = [frame.person for frame in frames]
    return BenchmarkReport(
        benchmark="expressive",
        version="expressive-1",
        counts={"frames": len(frames), "people": len(set(people)), "missing frames": len(missing)},
        comparisons=geometry_comparisons(errors),
        per_image=[PerImage([frame.name for frame in frames], people, values_per_image({KIND: methods[OURS]}))],
        curves=geometry_curves(errors),
        missing=missing,
    )


def score_heads(
    frames: Sequence[ScannedFrame],
    heads: dict[str, HeadGeometry],
    faces: np.ndarray,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, list[ScanErrors]]:
    """Errors of each method's head of each frame."""
    pairs = [
        (frame.scan, mesh) for method in heads.values() for frame, mesh in zip(frames, method.meshes(), strict=True)
    ]
    found = errors_of_all(pairs, faces, max_points=STEERING_POINTS, progress=progress)
    rows = (found[start : start + len(frames)] for start in range(0, len(found), len(frames)))
    return dict(zip(heads, rows, strict=True))


class LoadedFrames(NamedTuple):
    frames: list[ScannedFrame]
    missing: list[str]  # name and reason


def load_frames(directory: str | Path, *, image_size: int, framing: Framing = "pixels") -> LoadedFrames:
    """All frames of the list, and why some could not be loaded. Raises FileNotFoundError without frames.txt."""
    directory = Path(directory)
    listed = directory / "frames.txt"
    if not listed.exists():
        raise FileNotFoundError(f"{listed} is not there: docs/benchmarks.md describes the folder of this benchmark")
    names = [line.strip() for line in read_whole(listed).decode(errors="replace").splitlines() if line.strip()]

    def load(name: str) -> ScannedFrame | str:
        try:
            scan = load_scan(_find(directory, "scans", name), _find(directory, "landmarks", name))
            return ScannedFrame(name, _load_image(directory, name, image_size, framing), scan)
        except (OSError, ValueError) as error:
            return f"{name}: {error}"

    loaded = in_threads(load, names)
    return LoadedFrames(
        [one for one in loaded if isinstance(one, ScannedFrame)], [one for one in loaded if isinstance(one, str)]
    )


def _load_image(directory: Path, name: str, size: int, framing: Framing) -> UInt8[np.ndarray, "size size 3"]:
    import cv2

    path = _find(directory, "images", name)
    image = read_photograph(path)
    if (directory / "landmarks2d" / f"{name}.npy").exists():
        points: Float[np.ndarray, "68 2"] = read_npy(directory / "landmarks2d" / f"{name}.npy")
        if points.shape != (68, 2) or points.dtype.kind not in "fiu":
            raise ValueError(f"{directory / 'landmarks2d' / name}.npy has the shape {points.shape}, expected (68, 2)")
        return crop_image(image, crop_box(points, picture=picture_size(image, framing)), size)
    if image.shape[0] != image.shape[1]:
        raise ValueError(f"{path} is not square and has no landmarks2d: crop it as in training")
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _find(directory: Path, folder: str, name: str) -> Path:
    return first_existing(directory / folder / name, SUFFIXES[folder])
