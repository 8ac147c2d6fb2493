"""What limits the speed of a run, by a clock that the test moves."""

import pytest

from sheap_jax.training.speed import SpeedMeter, without_speed
from sheap_jax.training.stages import Stages
from sheap_jax.training.stall import StallWatch


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


def test_the_first_call_of_each_program_compiles():
    stall, meter = StallWatch(100.0), SpeedMeter(1, step=0)
    seen = []
    stages = Stages(stall, meter, compile_seconds=5000.0)
    for program in (len, max, len):
        with stages.program(program, "a step") as compiles:
            assert stall.stage_now is not None
            seen.append((compiles, *stall.stage_now[::2]))
    stall.close()
    assert seen == [(True, "compiling a step", 5000.0), (True, "compiling a step", 5000.0), (False, "a step", 100.0)]
