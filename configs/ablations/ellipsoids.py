"""3D Gaussians instead of surfels. The same 14 numbers: the third scale becomes a thickness."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "ellipsoids", {"primitive": "ellipsoids"})
