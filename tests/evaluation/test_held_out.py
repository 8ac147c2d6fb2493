"""Scores of held-out pairs: against networks whose errors are known."""

import numpy as np
import pytest
from tiny_benchmark import FRAMES, GRAY_STEP, SIZE, FakePredictor

from sheap_jax.data.records import Record, ShardError, Split, write_split
from sheap_jax.evaluation.held_out import load_held_out_pairs, score_pairs


@pytest.fixture
def pairs(tiny_benchmark):
    return load_held_out_pairs(tiny_benchmark.directory, image_size=SIZE)


def test_one_pair_of_each_person_and_always_the_same(pairs, tiny_benchmark):
    gray = np.stack([pairs.source, pairs.target]).mean(axis=(2, 3, 4)) * 255 / GRAY_STEP
    records = np.round(gray).astype(int)
    np.testing.assert_array_equal(records // FRAMES, [[0, 1], [0, 1]])
    assert (records[0] != records[1]).all()
    np.testing.assert_array_equal(pairs.landmarks, tiny_benchmark.truth.landmarks2d[records[1]])
    again = load_held_out_pairs(tiny_benchmark.directory, image_size=SIZE)
    np.testing.assert_array_equal(again.target, pairs.target)
    fewer = load_held_out_pairs(tiny_benchmark.directory, image_size=SIZE, count=1)
    assert len(fewer.source) == len(fewer.scans) == 1


def test_a_network_that_knows_the_answers_has_no_error(pairs, tiny_benchmark):
    found = score_pairs(FakePredictor(tiny_benchmark.model, tiny_benchmark.params), pairs)
    assert found.values["held_out/landmarks_px"] < 1e-3
    assert found.values["held_out/neutral_heads_mm"] < 0.01
    assert found.values["held_out/ssim_face"] == pytest.approx(1.0)
    assert found.score == found.values["held_out/neutral_heads_mm"]
    assert found.picture.shape[0] > 2 * SIZE
    assert found.picture.shape[1] > 5 * SIZE


def test_errors_are_those_that_were_made(pairs, tiny_benchmark):
    """Heads moved sideways, and the source in the place of the re-animation."""
    params = tiny_benchmark.params
    moved = params._replace(translation=params.translation + np.array([0.01, 0.0, 0.0], np.float32))
    network = FakePredictor(tiny_benchmark.model, moved, render=lambda source, target: source)
    values = score_pairs(network, pairs).values
    # The camera sees 0.25 m at 1 m distance, where the heads are.
    pixels_per_metre = SIZE / (2 * np.tan(np.radians(14.2539) / 2))
    assert values["held_out/landmarks_px"] == pytest.approx(0.01 * pixels_per_metre, rel=0.1)
    assert values["held_out/neutral_heads_mm"] < 0.01  # of the head at rest
    difference = (pairs.source - pairs.target).mean(axis=(1, 2, 3))
    assert values["held_out/psnr_face_db"] == pytest.approx(np.mean(-20 * np.log10(np.abs(difference))), abs=0.01)


def test_predictions_that_are_not_finite_score_worst_and_end_nothing(pairs, tiny_benchmark):
    params = tiny_benchmark.params
    broken = params._replace(translation=params.translation * np.float32(np.nan))
    found = score_pairs(FakePredictor(tiny_benchmark.model, broken), pairs)
    assert (found.values, found.score) == ({}, np.inf)


def test_pairs_whose_face_has_no_pixel_are_left_out(tiny_benchmark, tmp_path):
    """Landmarks on a line, or outside the picture, as a user's own file may have them."""
    split = Split(tiny_benchmark.directory, "test")
    line = np.repeat(np.linspace(1, 20, 68, dtype=np.float32)[:, None], 2, axis=1)
    records = [split[k]._replace(landmarks=line if k < 3 else split[k].landmarks - 1000) for k in range(6)]
    write_split(tmp_path / "some", "test", records, settings={})
    with pytest.raises(ValueError, match="no pair of frames has landmarks"):
        load_held_out_pairs(tmp_path / "some", image_size=SIZE)


def test_without_truth_landmarks_are_the_detected_ones_and_decide(tiny_benchmark, tmp_path):
    split = Split(tiny_benchmark.directory, "test")
    records = [split[k]._replace(weights=np.r_[np.zeros(k + 1), np.ones(67 - k)].astype(np.float32)) for k in range(6)]
    write_split(tmp_path / "some", "test", records, settings={})
    pairs = load_held_out_pairs(tmp_path / "some", image_size=SIZE)
    assert pairs.scans is None
    assert not pairs.seen[:, 0].any()
    assert pairs.seen[:, 10:].all()
    found = score_pairs(FakePredictor(tiny_benchmark.model, tiny_benchmark.params), pairs)
    assert found.score == found.values["held_out/landmarks_px"] < 1e-3
    assert "held_out/neutral_heads_mm" not in found.values


def test_what_cannot_be_scored_is_said(tiny_benchmark, tmp_path):
    split = Split(tiny_benchmark.directory, "test")
    blind: list[Record] = [split[k]._replace(weights=np.zeros(68, np.float32)) for k in range(6)]
    write_split(tmp_path, "test", blind, settings={})
    with pytest.raises(ValueError, match="no pair of frames has landmarks in its second frame"):
        load_held_out_pairs(tmp_path, image_size=SIZE)
    write_split(tmp_path / "train", "train", blind, settings={})
    with pytest.raises(ShardError, match="no split 'test'"):
        load_held_out_pairs(tmp_path / "train", image_size=SIZE)
