"""Which checkpoints benchmarks/gpu_truth.py scores; trainings and scores have tests of their own."""

import pytest


@pytest.fixture
def gpu_truth(load):
    return load("gpu_truth")


@pytest.mark.parametrize(
    ("steps", "scored", "points", "expected"),
    [
        ([10, 20, 30], set(), 3, [10, 20, 30]),
        ([10, 20, 30, 40, 50, 60], set(), 3, [20, 40, 60]),
        ([10, 20, 30], {10}, 1, [30]),
        ([10, 20, 30], {20}, 5, [30]),
        ([10, 20], {20}, 2, []),
        ([], set(), 2, []),
    ],
)
def test_scored_checkpoints_are_new_spread_and_end_with_the_newest(gpu_truth, steps, scored, points, expected):
    assert gpu_truth.chosen_steps(steps, scored, points) == expected


def test_people_of_a_model_get_a_run_of_their_own(gpu_truth):
    file = "configs/truth.py"
    ours, theirs = (
        gpu_truth.config_files.parse_arguments(gpu_truth.people_arguments(file, people), default=file, description="")
        for people in (None, "assets/ict.npz")
    )
    assert (ours.run_directory, theirs.run_directory) == ("runs/truth", "runs/truth-ict")
    assert theirs.morphable == theirs.data.embedded.people == "assets/ict.npz"
