"""Stages of the loop: which limit they have, and that everything is closed under watch."""

import pytest

from sheap_jax.training.speed import SpeedMeter
from sheap_jax.training.stages import Stages
from sheap_jax.training.stall import StallWatch


@pytest.fixture
def stall():
    watch = StallWatch(100.0)
    yield watch
    watch.close()


@pytest.fixture
def stages(stall):
    return Stages(stall, SpeedMeter(1, step=0), compile_seconds=5000.0)


def test_the_first_call_of_each_program_compiles(stall, stages):
    seen = []
    for program in (len, max, len):
        with stages.program(program, "a step") as compiles:
            assert stall.stage_now is not None
            seen.append((compiles, stall.stage_now.name, stall.stage_now.limit))
    assert seen == [(True, "compiling a step", 5000.0), (True, "compiling a step", 5000.0), (False, "a step", 100.0)]


def test_all_parts_are_closed_in_order_and_watched_when_the_loop_or_one_of_them_fails(stall, stages):
    closed = []

    class Part:
        def __init__(self, error=None):
            self.error = error

        def close(self):
            closed.append(stall.stage_now.name)
            if self.error:
                raise self.error

    def loop():
        with stages.closing(a=Part(), b=Part(OSError("full")), c=Part()):
            assert stall.stage_now.name == "the loop between two stages"
            raise ValueError("in the loop")

    with pytest.raises(OSError, match="full") as caught:
        loop()
    assert closed == ["closing a", "closing b", "closing c"]
    assert isinstance(caught.value.__context__, ValueError)
    assert stall.stage_now is None
