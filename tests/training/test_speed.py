"""What limits the speed of a run, by a clock that the test moves."""

import pytest

from sheap_jax.training.speed import SpeedMeter, without_speed


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, meter, what, seconds) -> None:
        with meter.waiting(what):
            self.now += seconds


def test_rates_and_shares_are_of_the_time_between_two_rows():
    clock = Clock()
    meter = SpeedMeter(8, step=40, clock=clock)
    clock.wait(meter, "compiling", 30.0)
    clock.wait(meter, "input", 1.0)
    clock.wait(meter, "devices", 2.0)
    clock.now += 1.0  # the host's own work
    row = meter.read(45)
    assert row.pop("speed/peak_memory_gib", 1.0) > 0  # where the backend says it
    assert row == pytest.approx(
        {
            "speed/pairs_per_second": 10.0,  # 5 steps of 8 pairs in 4 seconds
            "speed/input_share": 0.25,
            "speed/devices_share": 0.5,
            "speed/compiling_seconds": 30.0,
        }
    )
    clock.now += 2.0
    row = meter.read(46)
    assert (row["speed/pairs_per_second"], row["speed/input_share"]) == (4.0, 0.0)
    assert without_speed({"step": 46, "loss": 1.0} | row) == {"step": 46, "loss": 1.0}
