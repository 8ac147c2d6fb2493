"""Options of `sheap train` that are no fields of the configuration."""

from pathlib import Path

import pytest

from sheap_jax.commands import train


@pytest.mark.parametrize("asked", [False, True])
def test_fresh_reaches_the_run(monkeypatch, asked):
    seen = []

    def record(config, *, fresh):
        seen.append((config.name, fresh))
        return Path()

    monkeypatch.setattr(train, "train", record)
    train.main(["--config", "clip", *(["--fresh"] if asked else [])])
    assert seen == [("clip", asked)]
