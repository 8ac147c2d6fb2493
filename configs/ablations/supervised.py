"""Told the truth: the true shape of the training people is a target as well. No variant of the method, but a ceiling.

What pictures and landmarks can teach lies between the mean head and this run. docs/results.md gives the share of the
way that they go.

    sheap train --config ablations/supervised:quickstart
"""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "supervised", {"losses.true_shape": 0.01})
