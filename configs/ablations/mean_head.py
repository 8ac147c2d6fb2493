"""Pictures may move all heads alike, as the paper has it: losses.mean_share 1 (docs/method.md says why ours is 0)."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "mean_head", {"losses.mean_share": 1.0})
