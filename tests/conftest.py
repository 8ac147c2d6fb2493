"""How the suite is compiled and spread over processes, and test data that lies beside the repository."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.groups import group_of, longest_first
from tests.memory import Memory

# Four fifths of the suite's time is XLA compiling programs that run once. These halve it: LLVM does not optimise, and
# the older emitters of fusions are used, which write shorter code. JAX 0.12 no longer has the second flag.
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def _on_cpu() -> bool:
    """Whether JAX will choose the CPU. libtpu also serves to compile ahead of time where there is no TPU."""
    if "JAX_PLATFORMS" in os.environ:
        return os.environ["JAX_PLATFORMS"] == "cpu"
    tpus = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/*")]
    return not (find_spec("libtpu") and tpus) and not find_spec("jax_plugins")


# Before anything touches a device. XLA_FLAGS of one's own are left alone: with XLA_FLAGS= all is compiled as users do.
if _on_cpu() and version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)

# Tracing makes objects by the million that live on. To look for cycles among them takes a sixth of the time.
gc.set_threshold(50_000, 10, 10)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, and tests of one group follow each other."""
    order = {group: place for place, group in enumerate(longest_first(item.nodeid for item in items))}
    items.sort(key=lambda item: order[group_of(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that compile the same programs run in one process of several."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, not by their time
    return Groups(config, log) if config.getoption("dist") == "loadscope" else None


_memory = Memory()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After a test and its fixtures."""
    _memory.give_back(file_ends=nextitem is None or nextitem.path != item.path)


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{name} beside the repository, which is not there")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real faces, landmarks, a scan and the ICT head model."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs that took a second are compiled once, for this process and those that it starts; where they are."""
    import jax

    directory = tmp_path_factory.getbasetemp().parent / "sheap-compilation-cache"
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": str(directory),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    }
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1)
    yield directory
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def shared_trials() -> Path:
    """Small files that went wrong once, of many kinds."""
    return _shared_folder("trials")
