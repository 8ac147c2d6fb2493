"""The AffectNet benchmark of a trained estimator."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sheap_jax.evaluation.affectnet.classifier import LEARNING_RATE, Guesses, train_classifier
from sheap_jax.evaluation.affectnet.features import extract_features
from sheap_jax.evaluation.affectnet.layout import CLASSES, Images, Labels, load_split
from sheap_jax.evaluation.affectnet.metrics import ccc, class_accuracy, pcc, rmse, sign_agreement
from sheap_jax.evaluation.predictions import NetworkUnderTest
from sheap_jax.evaluation.report import BenchmarkReport, Comparison, PerImage

COMMON_CLASS, MEAN_LABEL = "most frequent class", "mean of the training images"


class Outcome(NamedTuple):
    """Truth and answers on the validation images, and those of the baselines, which see labels only."""

    truth: Labels
    guess: Guesses
    common_class: int
    mean_valence: float
    mean_arousal: float


def evaluate_affectnet(
    predictor: NetworkUnderTest,
    directory: str | Path,
    *,
    image_size: int,
    with_shape: bool = False,
    width: int = 2048,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Train the emotion network on the training images' features, score it on the validation images.

    Args:
        predictor: the network whose features are tested; it is not trained.
        directory: AffectNet's folder, see `affectnet.layout`.
        image_size: pixels of the square images that the network takes.
        with_shape: let the emotion network see the identity too.
        width: of the emotion network's layers.
        learning_rate: of its Adam.
        seed: of its parameters, the held-out images and the batches.
        progress: wraps the long iterations, for bars.

    Raises FileNotFoundError or ValueError that names what is missing or damaged.
    """
    train, test = load_split(directory, "train"), load_split(directory, "validation")

    def features(images: Images) -> np.ndarray:
        return extract_features(predictor, images, image_size=image_size, with_shape=with_shape, progress=progress)

    classifier = train_classifier(
        features(train), train.labels, seed=seed, width=width, learning_rate=learning_rate, progress=progress
    )
    outcome = Outcome(
        test.labels,
        classifier.guess(features(test)),
        int(np.bincount(train.labels.expression).argmax()),
        float(train.labels.valence.mean()),
        float(train.labels.arousal.mean()),
    )
    names = [str(path.relative_to(directory)) for path in test.paths]
    return BenchmarkReport(
        benchmark="affectnet",
        version="affectnet-8",
        settings={"features": "expression, jaw" + (", shape" if with_shape else ""), "width": width, "seed": seed},
        counts={"training images": len(train.paths), "images": len(test.paths), "epochs": classifier.epochs},
        comparisons=emotion_comparisons(outcome),
        per_image=[PerImage(names, names, emotion_values(outcome))],  # whose faces these are is not known
    )


def emotion_comparisons(outcome: Outcome) -> list[Comparison]:
    """Accuracy, over all images and by class; RMSE, sign agreement, PCC and CCC of valence and arousal."""
    truth, guess = outcome.truth, outcome.guess
    right = truth.expression == guess.expression
    common = truth.expression == outcome.common_class
    rows = [Comparison("accuracy", "", True, float(right.mean()), COMMON_CLASS, float(common.mean()))]
    of_class = class_accuracy(truth.expression, guess.expression, classes=len(CLASSES))
    rows += [
        Comparison(f"accuracy of {name}", "", True, float(value))
        for name, value in zip(CLASSES, of_class, strict=True)
        if np.isfinite(value)
    ]
    means = {"valence": outcome.mean_valence, "arousal": outcome.mean_arousal}
    for name, mean in means.items():
        ours, theirs = getattr(guess, name), getattr(truth, name)
        constant = np.full_like(theirs, mean)
        for score, measure in (("RMSE", rmse), ("sign agreement", sign_agreement)):
            values = (measure(theirs, ours), MEAN_LABEL, measure(theirs, constant))
            rows.append(Comparison(f"{name}, {score}", "", score != "RMSE", *values))
        rows += [
            Comparison(f"{name}, {score}", "", True, measure(theirs, ours))
            for score, measure in (("PCC", pcc), ("CCC", ccc))
        ]
    return rows


def emotion_values(outcome: Outcome) -> dict[str, np.ndarray]:
    """Those of the numbers that are means over images."""
    truth, guess = outcome.truth, outcome.guess
    values = {"accuracy": truth.expression == guess.expression}
    for name in ("valence", "arousal"):
        values[f"{name}, sign agreement"] = np.sign(getattr(truth, name)) == np.sign(getattr(guess, name))
    return {name: value.astype(np.float64) for name, value in values.items()}
