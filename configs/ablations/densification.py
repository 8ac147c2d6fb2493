"""With densification, for bases without it as small.py: from one surfel per face to 1.25."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "small") -> Config:
    changes = {"prototypes.capacity_per_face": 1.25, "prototypes.densify_every": 100}
    return derive(base, "densification", changes)
