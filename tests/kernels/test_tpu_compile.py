"""The real TPU compiler on the kernels, without a TPU: they compile, and their loops are as short as recorded."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(find_spec("libtpu") is None, reason="needs libtpu, the TPU compiler: pip install 'jax[tpu]'")
@pytest.mark.parametrize(("target", "kernel"), [("v5e", "forward"), ("v5e", "backward"), ("v6e", "forward")])
def test_bundles_are_those_recorded(target, kernel, monkeypatch):
    """One target, and another for what is tuned otherwise; `python benchmarks/tpu_compile.py` does all, and records."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import tpu_compile

    recorded = json.loads(tpu_compile.RESULTS.read_text())["targets"][target][kernel]["bundles_per_entry"]
    found = tpu_compile.measure(target, kernel)["bundles_per_entry"]
    assert found <= 1.1 * recorded, f"{target}, {kernel}: {found} bundles per entry, {recorded} recorded"
