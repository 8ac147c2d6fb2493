"""NoW's error of a folder of predicted meshes, from any method."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sheap_jax.evaluation.geometry_report import geometry_comparisons, geometry_curves, values_per_image
from sheap_jax.evaluation.geometry_scores import Mesh, Scan, ScanErrors, in_threads, scan_errors
from sheap_jax.evaluation.now.doubts import doubts
from sheap_jax.evaluation.now.layout import CHALLENGES, Missing, MissingPredictionsError, NowFolder, NowImage
from sheap_jax.evaluation.now.published import PUBLISHED_MEDIANS
from sheap_jax.evaluation.predictions import OURS
from sheap_jax.evaluation.report import BenchmarkReport, PerImage
from sheap_jax.evaluation.scans import STEERING_POINTS
from sheap_jax.files.mesh_files import MeshFile, read_landmarks7, read_mesh
from sheap_jax.files.places import first_existing

MESH_SUFFIXES = (".obj", ".ply")
LANDMARK_SUFFIXES = (".npy", ".txt")
ALL_IMAGES = "all images"


class NowErrors(NamedTuple):
    """What could be scored, in the order of the list, and what could not."""

    images: Sequence[NowImage]
    errors: Sequence[ScanErrors]
    missing: Sequence[Missing]
    doubtful: Sequence[str] = ()  # images whose prediction is probably a mistake, and why; they count too


def score_predictions(
    folder: NowFolder,
    predictions: str | Path,
    *,
    unit: float | None = None,
    allow_missing: bool = False,
    unpredicted: Sequence[Missing] = (),
    steering: int | None = STEERING_POINTS,
    progress: Callable[[Iterable], Iterable] = iter,
) -> NowErrors:
    """Errors of every image of the list.

    Args:
        folder: the benchmark.
        predictions: folder of `<subject>/<challenge>/<image>.obj` (or .ply) and `.npy` (or .txt) with seven landmarks.
        unit: of the predictions, in metres; None: unknown, the rigid (metrical) variant is left out.
        allow_missing: score what there is; otherwise anything missing is an error.
        unpredicted: images without a prediction whose reason is already known.
        steering: points of a scan that steer the refinement; None: all, which takes six times as long.
        progress: wraps the longest iteration, for a bar.

    Raises MissingPredictionsError, a ValueError, that names the images without prediction or scan.
    """
    scans, lacking = _load_scans(folder)
    known = {one.image: one for one in unpredicted}
    missing, jobs = [], []
    for image in folder.images:
        reason = known.get(image) or lacking.get(image.subject) or _lacks_files(Path(predictions) / image.stem)
        if reason is None:
            jobs.append(image)
        else:
            missing.append(reason if isinstance(reason, Missing) else Missing(image, reason))
    if missing and (not allow_missing or not jobs):
        raise MissingPredictionsError(missing, len(folder.images))

    def score(image: NowImage) -> tuple[ScanErrors, list[str]] | Missing:
        try:
            mesh, landmarks = load_prediction(Path(predictions) / image.stem)
            factor = unit or 1.0
            head = Mesh(factor * mesh.vertices, factor * landmarks)
            scan = scans[image.subject]
            errors = scan_errors(scan, head, mesh.faces, rigid=unit is not None, max_points=steering)
            lines = [f"{image.name}: {line}" for line in doubts(head, scan.landmarks, known_unit=unit is not None)]
        except (OSError, ValueError) as error:
            return Missing(image, str(error))
        return ScanErrors(*(values.astype(np.float32) for values in errors)), lines  # two thousand images must fit

    found = dict(zip(jobs, in_threads(score, jobs, progress=progress), strict=True))
    missing += [result for result in found.values() if isinstance(result, Missing)]
    scored = {image: result for image, result in found.items() if not isinstance(result, Missing)}
    if missing and (not allow_missing or not scored):
        raise MissingPredictionsError(missing, len(folder.images))
    errors, lines = zip(*scored.values(), strict=True)
    return NowErrors(list(scored), list(errors), missing, [line for one in lines for line in one])


class PredictedMesh(NamedTuple):
    """A predicted head as it lies in its files."""

    mesh: MeshFile
    landmarks: np.ndarray  # [7, 3]


def load_prediction(stem: Path) -> PredictedMesh:
    """Mesh and landmarks of one image. Raises FileNotFoundError or ValueError."""
    return PredictedMesh(
        read_mesh(first_existing(stem, MESH_SUFFIXES)), read_landmarks7(first_existing(stem, LANDMARK_SUFFIXES))
    )


def now_report(
    found: NowErrors, *, baselines: Mapping[str, Sequence[ScanErrors]] | None = None, split: str = "validation"
) -> BenchmarkReport:
    """Rows for all images and for each challenge; `baselines` hold the errors of other methods on the same images."""
    methods = {OURS: found.errors, **(baselines or {})}
    challenge = np.array([CHALLENGES.get(image.challenge, image.challenge) for image in found.images])
    kinds = {ALL_IMAGES: methods}
    for name in dict.fromkeys([*CHALLENGES.values(), *challenge]):
        places = np.flatnonzero(challenge == name).tolist()
        if places:
            kinds[name] = {method: [errors[place] for place in places] for method, errors in methods.items()}
    return BenchmarkReport(
        benchmark="now",
        version=f"now-{split}",
        counts={
            "images": len(found.images),
            "subjects": len({image.subject for image in found.images}),
            "scan points": sum(len(one.similarity) for one in found.errors),
            "missing images": len(found.missing),
        },
        comparisons=geometry_comparisons(kinds),
        per_image=[
            PerImage(
                [image.name for image in found.images],
                [image.subject for image in found.images],
                values_per_image({ALL_IMAGES: found.errors}),
            )
        ],
        curves=geometry_curves({ALL_IMAGES: methods}),
        published=PUBLISHED_MEDIANS.get(split, {}),
        missing=[str(one) for one in found.missing],
        doubtful=found.doubtful,
    )


class _Scans(NamedTuple):
    """By subject: a scan, or why there is none."""

    scans: dict[str, Scan]
    lacking: dict[str, str]


def _load_scans(folder: NowFolder) -> _Scans:
    def load(subject: str) -> Scan | str:
        try:
            return folder.scan(subject)
        except (OSError, ValueError) as error:
            return f"no scan: {error}"

    subjects = folder.subjects()
    found = dict(zip(subjects, in_threads(load, subjects), strict=True))
    return _Scans(
        {subject: scan for subject, scan in found.items() if isinstance(scan, Scan)},
        {subject: reason for subject, reason in found.items() if isinstance(reason, str)},
    )


def _lacks_files(stem: Path) -> str | None:
    try:
        first_existing(stem, MESH_SUFFIXES)
        first_existing(stem, LANDMARK_SUFFIXES)
    except FileNotFoundError as error:
        return str(error)
    return None
