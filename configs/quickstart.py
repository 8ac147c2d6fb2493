"""Quickstart."""

from sheap_jax.config import Config


def get_config() -> Config:
    return Config(name="quickstart")
