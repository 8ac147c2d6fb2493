"""An MLP over each prototype's features and embedding instead of UV map and graph network."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "mlp", {"regressor.kind": "mlp"})
