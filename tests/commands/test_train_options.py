"""Options of `sheap train` that are no fields of the configuration."""

from pathlib import Path

import pytest

from sheap_jax.commands import train
from sheap_jax.config_files import ConfigError
from sheap_jax.training.profile import StepRange


@pytest.mark.parametrize(
    ("options", "fresh", "profile"),
    [([], False, None), (["--fresh"], True, None), (["--profile", "5:6"], False, StepRange(5, 6))],
)
def test_options_reach_the_run(monkeypatch, options, fresh, profile):
    seen = []

    def record(config, **found):
        seen.append((config.name, found))
        return Path()

    monkeypatch.setattr(train, "train", record)
    train.main(["--config", "clip", *options])
    assert seen == [("clip", {"fresh": fresh, "profile": profile})]


def test_no_range_of_steps_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match="--profile is '5', it must be FIRST:LAST"):
        train.main(["--config", "there-is-none", "--profile", "5"])
