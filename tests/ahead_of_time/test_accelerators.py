"""Names of accelerators that are not there, and what their compilers are told."""

import importlib.util
import os

import pytest

from sheap_jax.ahead_of_time import accelerators
from sheap_jax.ahead_of_time.roofline import CHIPS


def test_every_gpu_has_figures_for_the_roofline():
    assert set(accelerators.GPUS) <= set(CHIPS)
    for kind, (_, _, _, _, memory, bandwidth) in accelerators.GPUS.items():
        assert CHIPS[kind].bandwidth == pytest.approx(bandwidth, rel=0.01)
        assert CHIPS[kind].memory == pytest.approx(memory, rel=0.07)


def test_the_compiler_of_gpus_is_told_not_to_time_anything(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--first")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    accelerators.prepare("h200:8")
    assert os.environ["XLA_FLAGS"].startswith("--first --xla_gpu_autotune_level=0")


def test_flags_of_gpus_stay_away_from_tpus(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--first")
    for variable in accelerators.TPU_VARIABLES:
        monkeypatch.setenv(variable, "mine")
    accelerators.prepare("v5p:2x2x1")
    assert os.environ["XLA_FLAGS"] == "--first"
    assert os.environ["TPU_WORKER_HOSTNAMES"] == "mine"


def test_unknown_chips_are_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"topology h300:8: known chips are v5e, .*, h200"):
        accelerators.find_target("h300:8")


def _gpu_compiler() -> bool:
    return any(importlib.util.find_spec(f"jax_cuda{version}_plugin") is not None for version in (12, 13))


def test_a_compiler_that_is_not_there_is_named():
    if _gpu_compiler():
        pytest.skip("the GPU compiler is installed")
    with pytest.raises(ValueError, match=r'h200: no compiler for it; pip install "jax\[cuda13\]" brings it'):
        accelerators.find_target("h200")


def test_a_machine_of_gpus():
    if not _gpu_compiler():
        pytest.skip('needs the GPU compiler: pip install "jax[cuda13]"; no GPU')
    target = accelerators.find_target("h200:8")
    assert target.devices.size == 8
    assert target.rasterizer == "pallas_gpu"
    assert target.devices.flat[0].device_kind == "NVIDIA H200"
