"""A row of metrics: the rates are those of the updates that were made."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sheap_jax.training.optimizer import make_optimizer
from sheap_jax.training.rows import Counters, log_line, metrics_row


def test_rates_are_those_of_the_last_update():
    """The size of a step of plain gradient descent is the rate itself."""
    schedules = {
        "estimator": optax.linear_schedule(0.0, 1.0, 10),
        "appearance": lambda count: 5.0 + count,
        "regressor": optax.linear_schedule(3.0, 3.0, 1),
    }
    optimizer = optax.sgd(schedules["estimator"])
    full = make_optimizer(schedules["estimator"], weight_decay=0.0, clip_norm=1.0, muon=True)
    params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    plain, own = optimizer.init(params), full.init(params)
    waiting = optax.sgd(schedules["regressor"]).init(params)
    moved = params
    for _ in range(3):
        moved, plain = optimizer.update(params, plain)
        _, own = full.update(params, own, params)
    report = SimpleNamespace(metrics={"loss": np.float32(0.5)})
    active = SimpleNamespace(active=np.array([True, False, True]))
    state = SimpleNamespace(opt_state={"estimator": own, "regressor": waiting}, prototypes=active)
    row = metrics_row(report, state, schedules)  # pyright: ignore[reportArgumentType]
    assert row["learning_rate/estimator"] == pytest.approx(-float(moved["dense"]["kernel"][0, 0]))
    assert row["learning_rate/appearance"] == 7.0
    assert row["learning_rate/regressor"] == 3.0
    assert (row["loss"], row["active_prototypes"]) == (0.5, 2.0)


def test_counts_are_given_from_row_to_row():
    counters = Counters()
    assert counters.since_last(skipped=2, replaced=0) == {"skipped": 2.0, "replaced": 0.0}
    assert counters.since_last(skipped=2, replaced=3) == {"skipped": 0.0, "replaced": 3.0}


def test_the_log_line_names_faults_and_memory_where_there_are_any():
    row = {"loss": 0.25, "learning_rate/estimator": 1e-3, "active_prototypes": 80.0, "skipped": 0.0, "replaced": 0.0}
    row |= {"speed/pairs_per_second": 164.2, "speed/input_share": 0.031}
    assert log_line(row) == {"loss": "0.2500", "lr": "1.0e-03", "pairs_s": "164", "input": "3%", "prototypes": "80"}
    worse = log_line(row | {"speed/peak_memory_gib": 27.61, "replaced": 4.0})
    assert (worse["memory"], worse["replaced"]) == ("27.6GiB", "4")
    assert "skipped" not in worse
