"""A CNN that predicts maps of the 14 numbers in the UV chart instead of the graph network."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "cnn", {"regressor.kind": "cnn"})
