"""The tiny run of the training's tests, compiled once for both."""

from tests.training.conftest import tiny_config, use_cache

__all__ = ["tiny_config", "use_cache"]
