"""Landmark errors with known offsets, and re-animation of plain grays: all numbers are worked out by hand."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_benchmark import FRAMES, GRAY_STEP, IDENTITIES, SIZE, FakePredictor

from sheap_jax.data.records import Record, ShardError, write_split
from sheap_jax.evaluation.benchmarks import Task, run_benchmark
from sheap_jax.evaluation.clips import SOURCE_FRAME, evaluate_clips
from sheap_jax.evaluation.predictions import MEAN_HEAD, NO_EXPRESSION, pose_heads, project_landmarks
from sheap_jax.morphable.model import mean_params

MOUTH = np.arange(68) >= 48
LAST = FRAMES - 1  # of each clip: held out


def _record(k: int, points, weights=None, clip: str = "clip") -> Record:
    image = np.full((SIZE, SIZE, 3), k * GRAY_STEP, np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    identity, frame = divmod(k, FRAMES)
    weights = np.ones(68, np.float32) if weights is None else np.asarray(weights, np.float32)
    return Record(f"person{identity}", clip, frame, jpeg, np.asarray(points, np.float32), weights)


def _write(directory, points, *, weights=None):
    """Two clips of three frames, the last of each held out. `weights`: of single records."""
    records = [_record(k, points[k], (weights or {}).get(k)) for k in range(IDENTITIES * FRAMES)]
    held_out = [k % FRAMES == LAST for k in range(len(records))]
    for split, chosen in (("train", False), ("test", True)):
        kept = [record for record, out in zip(records, held_out, strict=True) if out == chosen]
        write_split(directory, split, kept, settings={"image_size": SIZE})
    return directory


@pytest.fixture
def predictor(tiny_benchmark):
    return FakePredictor(tiny_benchmark.model, tiny_benchmark.params)


@pytest.fixture
def truth(tiny_benchmark):
    return np.asarray(tiny_benchmark.truth.landmarks2d)


def _row(report, quantity, baseline=MEAN_HEAD):
    (row,) = [row for row in report.comparisons if (row.quantity, row.baseline) == (quantity, baseline)]
    return row


def _eyes(points):
    """Distance of the outer eye corners."""
    return np.linalg.norm(points[..., 36, :] - points[..., 45, :], axis=-1)


def test_a_displaced_mouth_is_measured_in_distances_of_the_eyes(predictor, truth, tmp_path):
    """Detections 5 pixels from the predicted mouth: that error there, none at eyes and nose, 20 / 41 of it in all."""
    points = truth + np.where(MOUTH[:, None], [3.0, 4.0], 0.0)
    report = evaluate_clips(predictor, _write(tmp_path, points), image_size=SIZE)
    percent = np.mean(100 * 5.0 / _eyes(truth[LAST::FRAMES]))
    assert _row(report, "landmarks, eyes").ours == pytest.approx(0.0, abs=1e-2)
    assert _row(report, "landmarks, nose").ours == pytest.approx(0.0, abs=1e-2)
    assert _row(report, "landmarks, mouth").ours == pytest.approx(percent, rel=1e-4)
    assert _row(report, "landmarks, eyes, nose and mouth").ours == pytest.approx(percent * 20 / 41, rel=1e-3)
    frames, pairs = report.per_image
    np.testing.assert_allclose(frames.values["landmarks, mouth"], 500 / _eyes(truth[LAST::FRAMES]), rtol=1e-4)
    assert frames.images == ["person0/clip/2", "person1/clip/2"]
    assert pairs.images == ["person0/clip/0 -> person0/clip/2", "person1/clip/0 -> person1/clip/2"]
    assert report.counts == {"held-out frames": 2, "clips": 2}


def test_the_jaw_line_does_not_count(predictor, truth, tmp_path):
    points = truth + np.where(np.arange(68)[:, None] < 27, 4.0, 0.0)  # brows neither
    report = evaluate_clips(predictor, _write(tmp_path, points), image_size=SIZE)
    assert _row(report, "landmarks, eyes, nose and mouth").ours == pytest.approx(0.0, abs=1e-2)


def test_landmarks_of_another_size_are_scaled_with_the_picture(predictor, truth, tmp_path):
    """Relative errors do not change where the network takes pictures of twice the stored size."""
    points = truth + np.where(MOUTH[:, None], [3.0, 4.0], 0.0)
    report = evaluate_clips(predictor, _write(tmp_path, points), image_size=2 * SIZE)
    assert _row(report, "landmarks, mouth").ours == pytest.approx(np.mean(500 / _eyes(truth[LAST::FRAMES])), rel=1e-4)


def test_baselines_see_less(predictor, truth, tmp_path):
    """The source frame's landmarks are those of the clip's first frame; the mean head has no error at the mean head."""
    report = evaluate_clips(predictor, _write(tmp_path / "clips", truth), image_size=SIZE)
    source, target = truth[::FRAMES], truth[LAST::FRAMES]
    expected = 100 * np.linalg.norm(source - target, axis=-1)[:, 36:48].mean(axis=1) / _eyes(target)
    assert _row(report, "landmarks, eyes", SOURCE_FRAME).baseline_value == pytest.approx(expected.mean(), rel=1e-4)
    assert _row(report, "landmarks, eyes").baseline_value > 1.0
    still = project_landmarks(pose_heads(predictor.model, mean_params(predictor.model, 6)), image_size=SIZE)
    moved = evaluate_clips(predictor, _write(tmp_path / "still", still + np.array([2.0, -1.0])), image_size=SIZE)
    assert _row(moved, "landmarks, eyes, nose and mouth").baseline_value == pytest.approx(0.0, abs=1e-3)


def test_the_opening_of_the_mouth_is_the_gap_between_the_inner_lips(predictor, truth, tmp_path):
    """Lower lips detected half again as far from the upper ones: half the predicted gap is missing, wherever it is."""
    points = truth + 7.0
    points[:, 66] += 0.5 * (truth[:, 66] - truth[:, 62])
    report = evaluate_clips(predictor, _write(tmp_path, points), image_size=SIZE)
    gap = np.linalg.norm(truth[LAST::FRAMES, 66] - truth[LAST::FRAMES, 62], axis=-1)
    expected = np.mean(100 * 0.5 * gap / _eyes(truth[LAST::FRAMES]))
    assert expected > 1.0  # mouths are open
    assert _row(report, "landmarks, opening of the mouth").ours == pytest.approx(expected, rel=1e-3)


def test_a_head_without_expression_is_a_baseline(predictor, truth, tmp_path):
    jaw = predictor.model.joint_names.index("jaw")
    params = predictor.params
    stiff = params._replace(expression=0 * params.expression, rotations=params.rotations.at[:, jaw].set(0))
    report = evaluate_clips(FakePredictor(predictor.model, stiff), _write(tmp_path, truth), image_size=SIZE)
    row = _row(report, "landmarks, mouth", NO_EXPRESSION)
    assert row.ours > 1.0
    assert row.ratio == pytest.approx(1.0)


def test_re_animation_is_scored_beside_the_first_training_frame(predictor, truth, tmp_path):
    """The targets are two gray steps brighter than their sources; the network returns the target itself."""
    report = evaluate_clips(predictor, _write(tmp_path, truth), image_size=SIZE)
    row = _row(report, "re-animation, face, PSNR", "source image")
    assert row.baseline_value == pytest.approx(-20 * np.log10(2 * GRAY_STEP / 255), abs=0.1)
    assert row.ours > 50
    assert _row(report, "re-animation, face, SSIM", "source image").ours == pytest.approx(1.0, abs=1e-4)
    copied = FakePredictor(predictor.model, predictor.params, render=lambda source, target: np.asarray(source))
    report = evaluate_clips(copied, tmp_path, image_size=SIZE)
    assert _row(report, "re-animation, face, PSNR", "source image").ratio == pytest.approx(1.0)
    assert report.samples is not None
    height, width = report.samples.shape[:2]
    assert width == 5 * SIZE + 8
    assert 2 * SIZE + 2 < height < 3 * SIZE  # captions above


def test_frames_without_landmarks_do_not_count(predictor, truth, tmp_path):
    """A held-out frame without them is named and in no number; a first frame without them is no source."""
    points = truth + 100.0 * (np.arange(len(truth)) == LAST)[:, None, None]
    lost = {LAST: np.zeros(68), FRAMES: np.where(np.arange(68) == 60, 0.0, 1.0)}
    report = evaluate_clips(predictor, _write(tmp_path, points, weights=lost), image_size=SIZE)
    assert report.missing == ["person0/clip/2: eyes, nose or mouth were not detected"]
    assert report.counts["held-out frames"] == 1
    assert report.per_image[1].images == ["person1/clip/1 -> person1/clip/2"]
    assert _row(report, "landmarks, mouth").ours == pytest.approx(0.0, abs=1e-2)
    nothing = {k: np.zeros(68) for k in range(LAST, len(truth), FRAMES)}
    _write(tmp_path / "none", points, weights=nothing)
    with pytest.raises(ValueError, match=r"none of the 2 held-out frames.*detected"):
        evaluate_clips(predictor, tmp_path / "none", image_size=SIZE)


def test_the_version_is_that_of_the_held_out_frames(predictor, truth, tmp_path):
    first, same, other = (
        evaluate_clips(predictor, _write(tmp_path / name, points), image_size=SIZE).version
        for name, points in (("a", truth), ("b", truth), ("c", truth + 1))
    )
    assert first == same != other
    assert first.startswith("clips-")


def test_data_without_held_out_frames_say_how_to_prepare_them(predictor, truth, tmp_path):
    train = [_record(k, truth[k]) for k in range(2)]
    write_split(tmp_path, "train", train, settings={})
    with pytest.raises(ShardError, match=r"no split 'test'.*--test-share 0\.1 --hold-out frames"):
        evaluate_clips(predictor, tmp_path, image_size=SIZE)
    write_split(tmp_path, "test", [_record(2, truth[2], clip="another")], settings={})
    with pytest.raises(ValueError, match=r"person0/another/2.*no frame of its clip.*--hold-out frames"):
        evaluate_clips(predictor, tmp_path, image_size=SIZE)
    with pytest.raises(ShardError, match=r"nowhere/manifest\.json is missing.*--hold-out frames"):
        evaluate_clips(predictor, tmp_path / "nowhere", image_size=SIZE)


def test_the_data_are_those_of_the_run_unless_others_are_named(predictor, truth, tmp_path):
    _write(tmp_path / "run", truth)
    _write(tmp_path / "given", truth + 1)
    own, other = (
        run_benchmark("clips", predictor, Task(data, tmp_path, SIZE, trained_on=tmp_path / "run"))
        for data in (None, tmp_path / "given")
    )
    assert own.version != other.version
    with pytest.raises(ValueError, match=r"trained on generated heads.*--data clips=PATH"):
        run_benchmark("clips", predictor, Task(None, tmp_path, SIZE))


def test_pixels_of_the_network_input(predictor, truth, tmp_path):
    """A head 1 cm too high at 1 m is 4 % of the side too high, less or more by the depth of the face."""
    raised = predictor.params._replace(translation=predictor.params.translation + jnp.array([0.0, 0.01, 0.0]))
    report = evaluate_clips(FakePredictor(predictor.model, raised), _write(tmp_path, truth), image_size=SIZE)
    expected = np.mean(100 * 0.04 * SIZE / _eyes(truth[LAST::FRAMES]))
    assert _row(report, "landmarks, nose").ours == pytest.approx(expected, rel=0.12)
