"""What stops a run early, and what a run puts up with."""

import json
import signal

import numpy as np
import pytest

from sheap_jax.config import Faults
from sheap_jax.training.step import StepReport
from sheap_jax.training.watch import SETTLING, NotFiniteError, StepWatch, StopSignal

RECORDS = np.array([[10, 11], [20, 21], [30, 31]])


def key(record: int) -> str:
    return f"person{record // 10}/clip/{record}"


def make_report(*, loss=1.0, norm=1.0, sound=(1, 1, 1), finite=(1, 1, 1), applied=True, overflow=None) -> StepReport:
    metrics = {"loss": np.float32(loss), "gradient_norm/estimator": np.float32(norm)}
    return StepReport(metrics, RECORDS, np.array(sound, bool), np.array(finite, bool), np.array(applied), overflow)


def make_watch(folder, *, max_skipped=0, window=100, **options) -> StepWatch:
    return StepWatch(folder, key, Faults(max_skipped=max_skipped, window=window, explosion=10.0), **options)


def skip(watch: StepWatch, step: int, **report) -> None:
    watch.follow(make_report(applied=False, **report), step)
    watch.settle()


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def test_an_applied_step_passes(tmp_path):
    watch = make_watch(tmp_path)
    watch.follow(make_report(), 1)
    watch.settle()
    assert not (tmp_path / "skipped.jsonl").exists()


@pytest.mark.parametrize(
    ("report", "reason", "people"),
    [
        ({"sound": (1, 0, 1), "finite": (1, 0, 0), "loss": np.nan}, "the data hold NaN", [2]),
        ({"finite": (1, 1, 0), "loss": np.nan}, "the prediction gave NaN", [3]),
        ({"norm": np.inf}, "the loss or its gradient is NaN", [1, 2, 3]),
        ({"loss": 5e7}, "the loss exploded to 5e+07", [1, 2, 3]),
    ],
)
def test_a_step_that_was_not_applied_stops_with_reason_and_records(tmp_path, report, reason, people):
    with pytest.raises(NotFiniteError) as caught:
        skip(make_watch(tmp_path), 7, **report)
    assert "step 7" in str(caught.value)
    assert reason in str(caught.value)
    for person in (1, 2, 3):
        assert (f"person{person}/" in str(caught.value)) == (person in people)
    (row,) = lines(tmp_path)
    assert row["step"] == 7
    assert row["records"] == [f"person{p}/clip/{p}0 -> person{p}/clip/{p}1" for p in people]


def test_a_few_are_put_up_with_and_all_are_written(tmp_path):
    watch = make_watch(tmp_path, max_skipped=2)
    for step in (3, 5):
        skip(watch, step, loss=np.nan)
    with pytest.raises(NotFiniteError, match=r"step 8.*3 of the last 100 steps"):
        skip(watch, 8, loss=np.nan)
    assert [row["step"] for row in lines(tmp_path)] == [3, 5, 8]


def test_old_ones_are_forgotten(tmp_path):
    watch = make_watch(tmp_path, max_skipped=1)
    for step in (1, 101, 201):
        skip(watch, step, loss=np.nan)
    with pytest.raises(NotFiniteError):
        skip(watch, 300, loss=np.nan)


def test_a_resumed_run_forgets_what_it_does_again(tmp_path):
    watch = make_watch(tmp_path, max_skipped=9)
    for step in (3, 5):
        skip(watch, step, loss=np.nan)
    make_watch(tmp_path, resume_step=4)
    assert [row["step"] for row in lines(tmp_path)] == [3]


def test_the_loss_limit_follows_the_losses_of_the_phase(tmp_path):
    watch = make_watch(tmp_path)
    for step in range(SETTLING):
        assert watch.loss_limit == np.inf
        watch.follow(make_report(loss=2.0), step)
        watch.settle()
    assert watch.loss_limit == pytest.approx(20.0)
    watch.start_phase()
    assert watch.loss_limit == np.inf


def test_signals_are_given_back_when_the_loop_is_closed():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop = StopSignal()
    signal.raise_signal(signal.SIGTERM)
    assert stop.stops(3)
    stop.close()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_overflow_is_the_largest_since_it_was_asked_for(tmp_path):
    watch = make_watch(tmp_path)
    for step, overflow in enumerate([None, np.array([3, 0]), np.array([1, 2])]):
        watch.follow(make_report(overflow=overflow), step)
    watch.settle()
    np.testing.assert_array_equal(watch.take_overflow(), [3, 2])
    np.testing.assert_array_equal(watch.take_overflow(), [0, 0])
