"""The full method in the smallest runs that are meant to separate its parts: what the other files here change.

    python benchmarks/ablation.py                                              # all of them, three seeds
    sheap train --config ablations/mlp                                         # one of them
    sheap train --config ablations/mlp:small                                   # the same change of another base

It is small.py with fewer people and steps, and with densification: from one surfel per face to 1.25.
"""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "small") -> Config:
    changes = {
        "data.embedded.train_identities": 1_000,
        "data.embedded.test_identities": 24,
        "geometry_steps": 10_000,
        "steps": 11_000,
        "prototypes.capacity_per_face": 1.25,
        "prototypes.densify_every": 100,
        "log.pictures_every": 500,
        "log.checkpoint_every": 1_000,
    }
    return derive(base, "full", changes)
