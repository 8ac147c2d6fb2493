"""One size per triangle for offsets and scales, as in GaussianAvatars, instead of diag(s_u, s_v, s_n)."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "isotropic", {"regressor.isotropic": True})
