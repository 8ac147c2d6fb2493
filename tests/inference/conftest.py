"""What is compiled for one test file, or by one worker, serves the others."""

from tests.training.conftest import use_cache

__all__ = ["use_cache"]
