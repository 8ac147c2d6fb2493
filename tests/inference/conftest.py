"""What is compiled for one test file, or by one worker, serves the others."""

from tests.training.conftest import compilation_cache

__all__ = ["compilation_cache"]
