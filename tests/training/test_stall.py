"""The watchdog: stages that take too long are named."""

import logging
import threading

from sheap_jax.training import stall
from sheap_jax.training.stall import StallWatch


def test_a_stalled_stage_is_named_and_given_up(caplog):
    gave_up = threading.Event()
    watch = StallWatch(0.5, give_up=gave_up.set)
    with caplog.at_level(logging.WARNING), watch.stage("the next batch"):
        assert gave_up.wait(60)
    watch.close()
    warning, error = (record for record in caplog.records if "the next batch" in record.message)
    assert warning.levelno == logging.WARNING
    assert "gave up" in error.message


def test_stages_that_end_are_left_alone(monkeypatch):
    """Two stages, each shorter than the patience and together longer, by a clock that the test moves."""
    now = 0.0
    monkeypatch.setattr(stall.time, "monotonic", lambda: now)
    gave_up = threading.Event()
    watch = StallWatch(0.5, give_up=gave_up.set)
    for _ in range(2):
        with watch.stage("step"):
            now += 0.4
            assert not gave_up.wait(0.1)  # time to look ten times
    watch.close()


def test_compiling_may_take_longer_and_what_is_around_it_begins_anew(monkeypatch):
    now = 0.0
    monkeypatch.setattr(stall.time, "monotonic", lambda: now)
    gave_up = threading.Event()
    watch = StallWatch(0.5, give_up=gave_up.set)
    with watch.stage("the loop"):
        with watch.stage("compiling", seconds=100.0):
            now += 50.0
            assert not gave_up.wait(0.1)
        now += 0.4
        assert not gave_up.wait(0.1)
        now += 0.2
        assert gave_up.wait(60)
    watch.close()
