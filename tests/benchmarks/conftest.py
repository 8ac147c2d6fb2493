"""Benchmark scripts as their users start them, at toy size."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch) -> Callable[[str], ModuleType]:
    """A script of benchmarks/ as a module, with what it may import; the working directory is the repository."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), str(ROOT), *sys.path])
    return importlib.import_module


@pytest.fixture
def run(load, monkeypatch, tmp_path) -> Callable[..., Any]:
    """run("script", *arguments): what the script writes to its --output, or without one to its standard output."""

    def call(script: str, *arguments: Any, output: bool = True) -> Any:
        module, file = load(script), tmp_path / f"{script}.json"
        given = [*arguments, "--output", file] if output else arguments
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, given)])
        module.main()
        return json.loads(file.read_text()) if output else None

    return call


@pytest.fixture(autouse=True)
def quick(load, monkeypatch):
    """Nothing is measured here: one repeat is enough, and rates of the device are taken as given."""
    timing = load("timing")
    monkeypatch.setattr(timing, "REPEATS", (1, 1))
    peak = timing.DevicePeak(1e11, 1e10)
    for script in ("rasteriser", "ceilings"):
        monkeypatch.setattr(load(script), "device_peak", lambda: peak)


@pytest.fixture(autouse=True)
def one_cache(compilation_cache):
    """Several scripts run the same step. Those that train set a cache of their own."""
    yield
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache))
