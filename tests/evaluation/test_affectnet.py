import cv2
import jax
import numpy as np
import pytest
from scipy.stats import pearsonr
from tiny_benchmark import GRAY_STEP, SIZE, FakePredictor

from sheap_jax.evaluation.affectnet import (
    CLASSES,
    Labels,
    ccc,
    evaluate_affectnet,
    load_split,
    pcc,
    rmse,
    sign_agreement,
)
from sheap_jax.evaluation.affectnet.classifier import balanced_batches, emotion_loss, train_classifier
from sheap_jax.evaluation.affectnet.features import expression_features
from sheap_jax.evaluation.affectnet.metrics import class_accuracy
from sheap_jax.models.emotion import EmotionOutput

RNG = np.random.default_rng(0)
TRUTH, GUESS = RNG.uniform(-1, 1, 500), RNG.uniform(-1, 1, 500) + 0.3
GUESS += 0.7 * TRUTH


def test_scores_equal_scipy_and_closed_forms():
    assert pcc(TRUTH, GUESS) == pytest.approx(pearsonr(TRUTH, GUESS).statistic, rel=1e-12)
    covariance = np.cov(TRUTH, GUESS, ddof=0)
    lin = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (TRUTH.mean() - GUESS.mean()) ** 2)
    assert ccc(TRUTH, GUESS) == pytest.approx(lin, rel=1e-12)
    assert rmse(TRUTH, GUESS) == pytest.approx(np.linalg.norm(TRUTH - GUESS) / np.sqrt(500), rel=1e-12)
    assert sign_agreement(TRUTH, GUESS) == pytest.approx(np.mean(TRUTH * GUESS > 0), rel=1e-12)


def test_scores_of_special_answers():
    assert ccc(TRUTH, TRUTH) == pytest.approx(1)
    assert ccc(TRUTH, -TRUTH) == pytest.approx(2 * -TRUTH.var() / (2 * TRUTH.var() + 4 * TRUTH.mean() ** 2))
    # A shift by d and a scale by a leave the correlation at 1; concordance sees both (Lin 1989).
    a, d, variance = 2.0, 0.5, TRUTH.var()
    moved = a * TRUTH + d
    assert pcc(TRUTH, moved) == pytest.approx(1)
    shift = (moved.mean() - TRUTH.mean()) ** 2
    assert ccc(TRUTH, moved) == pytest.approx(2 * a * variance / (variance + a**2 * variance + shift))
    assert pcc(TRUTH, np.full(500, 0.2)) == ccc(TRUTH, np.full(500, 0.2)) == 0
    assert sign_agreement(np.array([0.0, 1, -1]), np.array([0.0, -1, -2])) == pytest.approx(2 / 3)


def test_accuracy_of_each_class():
    found = class_accuracy(np.array([0, 0, 2, 2, 2, 2]), np.array([0, 1, 2, 2, 2, 0]), classes=4)
    np.testing.assert_array_equal(found, [0.5, np.nan, 0.75, np.nan])


def test_the_loss_is_the_sum_of_its_terms_in_float64():
    rng = np.random.default_rng(1)
    labels = Labels(rng.integers(0, 8, 64), rng.uniform(-1, 1, 64), rng.uniform(-1, 1, 64))
    scores, valence, arousal = rng.normal(size=(64, 8)), rng.normal(size=64), rng.normal(size=64)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(64), labels.expression]).mean()
    pairs = [(labels.valence, valence), (labels.arousal, arousal)]
    expected += sum(np.mean((t - g) ** 2) for t, g in pairs)
    expected += 1 - np.mean([pearsonr(t, g).statistic for t, g in pairs])
    expected += 1 - np.mean([ccc(t, g) for t, g in pairs])
    assert float(jax.jit(emotion_loss)(EmotionOutput(scores, valence, arousal), labels)) == pytest.approx(
        expected, rel=1e-5
    )


def test_batches_are_balanced():
    """Classes of 900, 90 and 10 images are drawn equally often; a class that does not occur never."""
    classes = np.repeat([0, 1, 3], [900, 90, 10])
    batches = [b for epoch in range(20) for b in balanced_batches(classes, np.random.default_rng(epoch))]
    assert {len(batch) for batch in batches} == {64}
    drawn = np.bincount(classes[np.concatenate(batches)], minlength=4) / (64 * len(batches))
    np.testing.assert_allclose(drawn, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.015)


def _separable(seed: int, count: int) -> tuple[np.ndarray, Labels]:
    """Eight well separated clouds of unequal sizes; valence and arousal are linear in the features."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(8, 12))
    classes = rng.choice(8, count, p=np.array([8, 4, 2, 2, 1, 1, 1, 1]) / 20)
    features = (centers[classes] + 0.1 * rng.normal(size=(count, 12))).astype(np.float32)
    return features, Labels(classes, np.tanh(features[:, 0]), np.tanh(features[:, 1]))


@pytest.fixture(scope="module")
def trained():
    options = {"width": 32, "epochs": 6, "learning_rate": 3e-3}
    features, labels = _separable(0, 1000)
    shuffled = np.random.default_rng(5).permutation(len(features))
    return (
        train_classifier(features, labels, **options),
        train_classifier(features, labels, **options),
        train_classifier(features, labels.take(shuffled), **options),
    )


def test_separable_emotions_are_learned(trained):
    features, labels = _separable(1, 600)
    guess = trained[0].guess(features)
    accuracy = class_accuracy(labels.expression, guess.expression, classes=8)
    assert accuracy.min() > 0.95
    assert np.mean(guess.expression == labels.expression) > 0.98
    assert ccc(labels.valence, guess.valence) > 0.9
    assert ccc(labels.arousal, guess.arousal) > 0.9


def test_shuffled_labels_leave_chance(trained):
    """With balanced drawing all eight answers are equally likely: the mean accuracy of the classes is one eighth."""
    features, labels = _separable(2, 2000)
    guess = trained[2].guess(features)
    accuracy = class_accuracy(labels.expression, guess.expression, classes=8)
    assert 0.0 <= accuracy.mean() < 0.3
    assert abs(pcc(labels.valence, guess.valence)) < 0.4


def test_the_same_seed_gives_the_same_network(trained):
    features, _ = _separable(3, 200)
    first, second = (classifier.guess(features) for classifier in trained[:2])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_images_are_refused():
    features, labels = _separable(0, 60)
    with pytest.raises(ValueError, match="60 images are too few"):
        train_classifier(features, labels, width=8)


POINTS = np.stack([np.linspace(24, 40, 68), np.linspace(26, 38, 68)], axis=1)


def _write_folder(root, split, count):
    """The release with one file per annotation; the images are gray, record k % 6 of the tiny benchmark."""
    for name in ("images", "annotations"):
        (root / split / name).mkdir(parents=True)
    for k in range(count):
        gray = np.full((64, 64, 3), k % 6 * GRAY_STEP, np.uint8)
        cv2.imwrite(str(root / split / f"images/{k}.jpg"), gray)
        values = {"exp": str(k % 6 if k else 8), "val": "-2.000" if k == 1 else str(k % 6 / 10), "aro": "0.25"}
        for name, value in values.items():
            np.save(root / split / f"annotations/{k}_{name}.npy", value)
        np.save(root / split / f"annotations/{k}_lnd.npy", POINTS.ravel())


def test_both_releases_are_read_and_useless_labels_dropped(tmp_path):
    _write_folder(tmp_path / "new", "val_set", 8)
    rows = ["subDirectory_filePath,face_x,facial_landmarks,expression,valence,arousal"]
    points = ";".join(str(value) for value in POINTS.ravel())
    rows += [f"{k}.jpg,3,{points},{k % 6 if k else 8},{-2 if k == 1 else k % 6 / 10},0.25" for k in range(8)]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/validation.csv").write_text("\n".join(rows))
    for directory in (tmp_path / "new", tmp_path / "old"):
        images = load_split(directory, "validation")
        assert [path.name for path in images.paths] == [f"{k}.jpg" for k in range(2, 8)]
        assert images.labels.expression.tolist() == [2, 3, 4, 5, 0, 1]
        np.testing.assert_allclose(images.labels.valence, [0.2, 0.3, 0.4, 0.5, 0.0, 0.1])
        np.testing.assert_allclose(images.landmarks, np.broadcast_to(POINTS, (6, 68, 2)))
    with pytest.raises(FileNotFoundError, match=r"train_set nor .*training\.csv"):
        load_split(tmp_path / "new", "train")
    (tmp_path / "old/validation.csv").write_text("\n".join(rows).replace("0.25", "x"))
    with pytest.raises(ValueError, match=r"validation\.csv, line 2"):
        load_split(tmp_path / "old", "validation")


def test_features_are_expression_and_jaw(tiny_benchmark):
    model, params = tiny_benchmark.model, tiny_benchmark.params
    features = expression_features(model, params)
    assert features.shape == (6, model.expression_basis.shape[0] + 3)
    np.testing.assert_array_equal(features[:, -3:], params.rotations[:, model.joint_names.index("jaw")])
    with_shape = expression_features(model, params, with_shape=True)
    np.testing.assert_array_equal(with_shape, np.concatenate([features, params.shape], axis=1))


def test_the_whole_benchmark(tiny_benchmark, tmp_path):
    """Six expressions that name their class: the report must say that they are found."""
    _write_folder(tmp_path, "train_set", 242)
    _write_folder(tmp_path, "val_set", 14)
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    report = evaluate_affectnet(predictor, tmp_path, image_size=SIZE, width=32, learning_rate=1e-2)
    rows = {row.quantity: row for row in report.comparisons}
    assert report.counts["training images"] == 240
    assert report.counts["images"] == 12
    assert rows["accuracy"].ours > 0.9
    assert rows["accuracy"].baseline_value == pytest.approx(1 / 6, abs=0.01)
    assert {f"accuracy of {name}" for name in CLASSES[:6]} <= rows.keys()
    assert "accuracy of contempt" not in rows
    for name in ("valence", "arousal"):
        for score in ("RMSE", "sign agreement", "PCC", "CCC"):
            assert np.isfinite(rows[f"{name}, {score}"].ours)
    assert report.per_image[0].values["accuracy"].mean() == pytest.approx(rows["accuracy"].ours)
