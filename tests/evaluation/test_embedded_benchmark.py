import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from tiny_benchmark import GRAY_STEP, SIZE, FakePredictor

from sheap_jax.data.embedded.truth import Truth, save_truth
from sheap_jax.evaluation.embedded import AT_REST, MOVING, NO_EXPRESSION, SCAN_STRIDE, evaluate_embedded, moving_points


@pytest.fixture(scope="module")
def perfect(tiny_benchmark):
    """Report of a predictor that is right about everything."""
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    return evaluate_embedded(predictor, tiny_benchmark.directory, image_size=SIZE)


def _row(report, quantity, baseline=None):
    rows = [r for r in report.comparisons if r.quantity == quantity and baseline in (None, r.baseline)]
    assert len(rows) == 1, [r.quantity for r in report.comparisons]
    return rows[0]


def test_what_a_terminal_shows_is_ten_rows_at_most(perfect):
    rows = {(row.quantity, row.baseline) for row in perfect.comparisons}
    assert set(perfect.main_rows) <= rows
    assert len(perfect.main_rows) <= 10 < len(rows)


def test_the_right_parameters_have_no_error(perfect):
    for kind in ("neutral", "expressive"):
        for alignment in ("similarity", "rigid"):
            rows = [r for r in perfect.comparisons if r.quantity.startswith(f"{kind} heads, {alignment}")]
            assert rows
            for row in rows:
                assert row.ours < 1e-3, row  # mm: float32 vertices
                assert row.baseline_value > 0.1, row
    assert _row(perfect, "landmarks").ours < 1e-3
    assert _row(perfect, "landmarks").baseline_value > 0.3


def test_counts_say_what_was_evaluated(perfect, tiny_benchmark):
    points = len(np.flatnonzero(tiny_benchmark.truth.face_mask)[::SCAN_STRIDE])
    assert perfect.counts == {"frames": 6, "identities": 2, "re-animated pairs": 6, "scan points": 6 * points}


def test_values_of_single_images_are_those_behind_the_means(perfect):
    """Landmarks and pictures are means over images; frames are grouped by person."""
    frames, pairs = perfect.per_image
    assert frames.images == [f"person{k // 3}/clip/{k % 3}" for k in range(6)]
    assert frames.people == ["person0"] * 3 + ["person1"] * 3
    assert pairs.images[0].startswith("person0/clip/0 -> person0/clip/")
    for part, quantity in ((frames, "landmarks"), (pairs, "re-animation, face, PSNR")):
        rows = [row for row in perfect.comparisons if row.quantity == quantity]
        assert part.values[quantity].mean() == pytest.approx(rows[0].ours)
    assert frames.values["neutral heads, similarity, median"].shape == (6,)


def test_a_mean_head_predictor_scores_as_the_baseline(tiny_benchmark):
    mean = tiny_benchmark.params._replace(shape=jnp.zeros_like(tiny_benchmark.params.shape))
    report = evaluate_embedded(FakePredictor(tiny_benchmark.model, mean), tiny_benchmark.directory, image_size=SIZE)
    for row in report.comparisons:
        if row.quantity.startswith("neutral"):
            assert row.ratio == pytest.approx(1.0, abs=1e-6), row


def test_expression_and_pose_are_zeroed_for_neutral_heads_only(tiny_benchmark):
    """Wrong expressions must not touch the neutral error; dropping them must give the expressionless baseline."""
    params = tiny_benchmark.params
    jaw = tiny_benchmark.model.joint_names.index("jaw")
    still = params._replace(expression=0 * params.expression, rotations=params.rotations.at[:, jaw].set(0))
    report = evaluate_embedded(FakePredictor(tiny_benchmark.model, still), tiny_benchmark.directory, image_size=SIZE)
    assert _row(report, "neutral heads, rigid, median").ours < 1e-3
    row = _row(report, "expressive heads, rigid, median", NO_EXPRESSION)
    assert row.ours > 0.05
    assert row.ratio == pytest.approx(1.0, abs=1e-6)
    assert _row(report, f"{MOVING}, rigid, median", NO_EXPRESSION).ours > row.ours
    assert _row(report, f"{MOVING}, rigid, median", AT_REST).baseline_value < 1e-3  # the identity is right


def test_moving_points_are_those_that_an_expression_moves(tiny_benchmark):
    """A neutral head moves nowhere in any pose; an open jaw moves the chin and not the nose."""
    truth = tiny_benchmark.truth
    turn = Rotation.from_rotvec([0.2, -0.4, 0.1]).as_matrix().astype(np.float32)
    chin = truth.neutral[:, :, 1] < truth.landmarks7_neutral[:, 5:, 1].mean(axis=1)[:, None] - 0.01
    opened = truth.neutral - 0.01 * chin[..., None] * np.array([0, 1, 0], np.float32)
    heads = Truth(
        **truth._asdict()
        | {
            "posed": np.concatenate([truth.neutral, opened]) @ turn.T + 0.1,
            "landmarks7_posed": np.concatenate([truth.landmarks7_neutral] * 2) @ turn.T + 0.1,
            "identity_index": np.array([0, 1, 0, 1], np.int32),
        }
    )
    moving = moving_points(heads)
    assert not moving[:2].any()
    np.testing.assert_array_equal(moving[2:], chin[:, np.flatnonzero(truth.face_mask)[::SCAN_STRIDE]])
    assert moving[2:].any(axis=1).all()


def test_the_baseline_equals_a_brute_force_calculation(perfect, tiny_benchmark):
    """Mean head on two people: distances by trimesh, alignment by a general optimiser."""
    model, truth = tiny_benchmark.model, tiny_benchmark.truth
    triangles = np.asarray(model.template, np.float64)[np.asarray(model.faces)]
    errors = []
    for person in truth.neutral:
        scan = person[np.flatnonzero(truth.face_mask)[::SCAN_STRIDE]].astype(np.float64)
        center = scan.mean(axis=0)

        def distances(x, scan=scan, center=center):
            moved = (scan - center) @ Rotation.from_rotvec(x[:3]).as_matrix().T + center + 0.1 * x[3:]
            # Only triangles near a point can hold its closest one: 40 nearest centres of 1,900.
            near = np.linalg.norm(moved[:, None] - triangles.mean(axis=1), axis=-1).argsort(axis=1)[:, :40]
            closest = trimesh.triangles.closest_point(triangles[near].reshape(-1, 3, 3), np.repeat(moved, 40, axis=0))
            return 1000 * np.linalg.norm(closest.reshape(len(moved), 40, 3) - moved[:, None], axis=-1).min(axis=1)

        best = minimize(lambda x: np.mean(distances(x) ** 2), np.zeros(6), method="BFGS", options={"maxiter": 12})
        errors.append(distances(best.x))
    pooled = np.concatenate(errors)
    for name, value in {"median": np.median(pooled), "mean": pooled.mean(), "std": pooled.std()}.items():
        assert _row(perfect, f"neutral heads, rigid, {name}").baseline_value == pytest.approx(value, rel=0.01)


def test_image_scores_of_plain_pictures(perfect):
    """Targets lie one or two gray steps from their sources (half of three frames further on is one, cyclically)."""
    row = _row(perfect, "re-animation, frame, PSNR", "source image")
    steps = np.array([1, 1, 2]) * GRAY_STEP / 255
    assert row.baseline_value == pytest.approx(np.mean(-20 * np.log10(steps)), abs=0.1)
    assert row.ours > 50
    mean_color = _row(perfect, "re-animation, face, PSNR", "mean colour of the target")
    assert mean_color.baseline_value > 50
    assert _row(perfect, "re-animation, face, SSIM", "source image").ours == pytest.approx(1.0, abs=1e-4)


def test_landmarks_are_measured_in_pixels_of_the_network_input(tiny_benchmark):
    """A network that takes images of twice the stored size, and places every head 1 cm too high."""
    high = tiny_benchmark.params._replace(translation=tiny_benchmark.params.translation + jnp.array([0.0, 0.01, 0.0]))
    report = evaluate_embedded(FakePredictor(tiny_benchmark.model, high), tiny_benchmark.directory, image_size=2 * SIZE)
    # 1 cm at 1 m distance is 4 % of the image's side, less or more by the depth of the face.
    assert _row(report, "landmarks").ours == pytest.approx(0.04 * 2 * SIZE, rel=0.12)


def test_missing_truth_and_foreign_truth_are_named(tiny_benchmark, tmp_path):
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_benchmark.directory, copy)
    save_truth(copy, "test", Truth(**{**tiny_benchmark.truth._asdict(), "posed": tiny_benchmark.truth.posed[:4]}))
    with pytest.raises(ValueError, match=r"4 records, the shards have 6.*generate"):
        evaluate_embedded(predictor, copy, image_size=SIZE)
    (copy / "truth-test.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"truth-test\.npz"):
        evaluate_embedded(predictor, copy, image_size=SIZE)
