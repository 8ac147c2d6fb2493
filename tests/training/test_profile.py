"""Traces: which steps may be asked for, and that a trace holds them."""

import jax
import jax.numpy as jnp
import pytest

from sheap_jax.config_files import ConfigError
from sheap_jax.training.profile import Profile, StepRange, check_range, trace_folder


@pytest.mark.parametrize("text", ["", "5", "5:", "a:b", "1:2:3", "-1:2", "1.5:2"])
def test_only_two_steps_are_a_range(text):
    with pytest.raises(ConfigError, match="must be FIRST:LAST"):
        StepRange.parse(text)


def test_steps_outside_the_run_are_refused(tmp_path):
    for wanted in ((0, 3), (4, 3), (99, 101)):
        with pytest.raises(ConfigError, match="within the run's steps 1 to 100"):
            check_range(StepRange(*wanted), tmp_path, done=0, steps=100)
    check_range(StepRange.parse("1:100"), tmp_path, done=0, steps=100)


def test_steps_that_are_done_are_refused_unless_they_were_traced(tmp_path):
    wanted = StepRange(5, 6)
    with pytest.raises(ConfigError, match="has 6 steps done: ask for later ones"):
        check_range(wanted, tmp_path, done=6, steps=100)
    (trace_folder(tmp_path, wanted) / "plugins").mkdir(parents=True)
    (trace_folder(tmp_path, wanted) / "plugins/host.xplane.pb").touch()
    check_range(wanted, tmp_path, done=6, steps=100)  # the same command after a stop


def test_the_trace_holds_the_steps_and_the_host_waits_at_its_ends_alone(tmp_path):
    waits = []
    profile = Profile(StepRange(2, 4), tmp_path, wait=lambda: waits.append(step))
    double = jax.jit(lambda x: 2 * x)
    for step in range(1, 7):
        with profile.step(step):
            double(jnp.float32(step))
    profile.close()
    assert waits == [2, 4]
    (trace,) = trace_folder(tmp_path, StepRange(2, 4)).rglob("*.xplane.pb")
    found = jax.profiler.ProfileData.from_file(str(trace))
    events = [event for plane in found.planes for line in plane.lines for event in line.events]
    steps = sorted(dict(event.stats)["step_num"] for event in events if event.name.startswith("train"))
    assert steps == [2, 3, 4]
