"""A row of metrics, and what of it is shown in the log line."""

from collections.abc import Mapping

import numpy as np
import optax

from sheap_jax.training.optimizer import applied_updates
from sheap_jax.training.speed import PREFIX
from sheap_jax.training.state import TrainState
from sheap_jax.training.step import StepReport


def metrics_row(report: StepReport, state: TrainState, schedules: Mapping[str, optax.Schedule]) -> dict[str, float]:
    """What the last step reported, the learning rates of its updates, and the active prototypes.

    Waits for the devices.

    Args:
        schedules: of `start.build_schedules`.
    """
    values = {name: float(value) for name, value in report.metrics.items()}
    updates = {name: applied_updates(own) for name, own in state.opt_state.items()}
    updates["appearance"] = updates["estimator"]  # one optimiser has both rates
    for name, schedule in schedules.items():
        values[f"learning_rate/{name}"] = float(np.asarray(schedule(max(updates[name] - 1, 0))))
    values["active_prototypes"] = float(np.asarray(state.prototypes.active).sum())
    return values


class Counters:
    """Counts of a start, as differences from row to row. The first row after a stop counts from the checkpoint on."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def since_last(self, **counts: int) -> dict[str, float]:
        """By how much each count has risen since the last call."""
        before, self._before = self._before, counts
        return {name: float(count - before.get(name, 0)) for name, count in counts.items()}


def log_line(row: Mapping[str, float]) -> dict[str, str]:
    """The few numbers that say how a run is doing; of faults and memory only where there are any."""

    def speed(name: str) -> float:
        return row.get(PREFIX + name, 0.0)

    line = {
        "loss": f"{row['loss']:.4f}",
        "lr": f"{row['learning_rate/estimator']:.1e}",
        "pairs_s": f"{speed('pairs_per_second'):.3g}",
        "input": f"{speed('input_share'):.0%}",
        "prototypes": f"{row['active_prototypes']:.0f}",
    }
    if speed("peak_memory_gib"):
        line["memory"] = f"{speed('peak_memory_gib'):.1f}GiB"
    faults = ("skipped", "replaced", "overflow/surfels", "overflow/mesh")
    return line | {name: f"{row[name]:.0f}" for name in faults if row.get(name)}
