"""How the suite is compiled and spread over processes, and test data that lies beside the repository."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

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

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Folders whose files compile a program once for many tests.
COMPILED_ONCE = ("data", "evaluation", "inference", "models", "morphable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that compile the same programs run in one process of several (pytest-xdist's `--dist loadgroup`)."""
    for item in items:
        group = _group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


_memory = Memory()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After a test and its fixtures."""
    _memory.give_back(file_ends=nextitem is None or nextitem.path != item.path)


def _group(item: pytest.Item) -> str | None:
    folder, file = item.path.parent.name, item.path.stem
    folder = "training" if folder == "ahead_of_time" else folder  # they compile the same tiny run
    if folder in ("training", "benchmarks"):
        return folder
    if folder == "kernels":
        # One program for each implementation serves all scenes, of all files.
        arguments = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        return str(arguments.get("implementation", file))
    return file if folder in COMPILED_ONCE else None


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
