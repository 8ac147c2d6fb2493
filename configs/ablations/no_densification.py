"""The prototypes stay where they start. In the paper densification is worth 0.02 mm."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "no_densification", {"prototypes.densify_every": 0})
