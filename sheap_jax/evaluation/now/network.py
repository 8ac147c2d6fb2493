"""NoW for a trained network: predict, write the submission, score what was written."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from sheap_jax.evaluation.geometry_scores import Mesh, ScanErrors, in_threads, scan_errors
from sheap_jax.evaluation.now.layout import NowFolder
from sheap_jax.evaluation.now.predict import predict_now
from sheap_jax.evaluation.now.score import now_report, score_predictions
from sheap_jax.evaluation.predictions import MEAN_HEAD, NetworkUnderTest, pose_heads
from sheap_jax.evaluation.report import BenchmarkReport
from sheap_jax.evaluation.scans import STEERING_POINTS
from sheap_jax.morphable.model import mean_params


def evaluate_now(
    predictor: NetworkUnderTest,
    directory: str | Path,
    *,
    image_size: int,
    output: str | Path,
    split: str = "validation",
    allow_missing: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Score a network on NoW's validation images; the submission stays in `output`.

    The scans of the test list are not public: `predict_now` writes its submission, the makers of NoW score it.

    Args:
        predictor: the network.
        directory: NoW's official folder, see `now.layout`.
        image_size: pixels of the square images that the network takes.
        output: the submission goes here.
        split: which list of images.
        allow_missing: images without box, photograph or scan are listed; otherwise they are an error.
        progress: wraps the long iterations, for bars.

    Raises FileNotFoundError or ValueError for files that are missing or damaged.
    """
    folder = NowFolder(directory, split=split)
    unpredicted = predict_now(predictor, folder, output, image_size=image_size, progress=progress)
    found = score_predictions(
        folder, output, unit=1.0, allow_missing=allow_missing, unpredicted=unpredicted, progress=progress
    )
    # The mean head has one error per person; it counts once for each image, as our heads do.
    (mean,) = pose_heads(predictor.model, mean_params(predictor.model, 1)).meshes()
    subjects = list(dict.fromkeys(image.subject for image in found.images))
    faces = np.asarray(predictor.model.faces)

    def score(subject: str) -> ScanErrors:
        return scan_errors(folder.scan(subject), Mesh(*mean), faces, max_points=STEERING_POINTS)

    errors = in_threads(score, subjects)
    of_subject = dict(zip(subjects, errors, strict=True))
    baseline = [of_subject[image.subject] for image in found.images]
    return now_report(found, baselines={MEAN_HEAD: baseline}, split=split)._replace(submission=Path(output))
