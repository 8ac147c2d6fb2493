"""No light: a surfel's colour is its albedo."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "no_light", {"light": "none"})
