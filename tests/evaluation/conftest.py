import pytest
from tiny_benchmark import TinyBenchmark, write_tiny_benchmark


@pytest.fixture(scope="session")
def tiny_benchmark(tmp_path_factory) -> TinyBenchmark:
    return write_tiny_benchmark(tmp_path_factory.mktemp("tiny_benchmark"))
