"""The scale report: what it says of a step whose numbers are known, and, slowly, of one that is compiled."""

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest

from sheap_jax.ahead_of_time import compile_report
from sheap_jax.ahead_of_time.accelerators import TPU_VARIABLES, Target, find_target
from sheap_jax.ahead_of_time.program_cost import Collective, Traffic
from sheap_jax.ahead_of_time.roofline import CHIPS

REPORT = compile_report.CompileReport(
    config="known",
    topology="v5p:4x4x4",
    chips=64,
    fsdp=1,
    batch_per_chip=2,
    accumulate=1,
    memory={"parameters": 2**30, "temporary": 2**30, "total": 2 * 2**30},
    capacity=95 * 2**30,
    flops=0.459e12,  # a millisecond
    xla_flops=0.2e12,
    bytes=0.0,
    traffic=[Traffic("surfels", 0)],
    xla_bytes=0.0,
    collectives=[Collective("all-reduce", 0, int(300e6))],  # 2 x 63 / 64 of it at 600 GB/s: 0.98 ms
    loops=[3, 0],
    entries=0.0,
    bundles=0.0,
    compile_seconds=1.0,
    notes=["a note"],
    versions={},
)


def test_estimate_of_many_chips():
    assert compile_report.estimate(REPORT, 1).total == pytest.approx(1e-3)
    assert compile_report.estimate(REPORT, 64).total == pytest.approx(1e-3 + 2 * 63 / 64 * 0.5e-3)


def test_description_says_what_fits_and_what_is_sent():
    text = compile_report.describe(REPORT)
    assert "a note" in text
    assert "  fits into 95 GiB" in text
    assert "all-reduce: 0 operations, 286.1 MiB" in text
    assert "DOES NOT FIT" in compile_report.describe(REPORT._replace(capacity=2**30))


def test_table_is_written_from_saved_reports(tmp_path, monkeypatch):
    page = tmp_path / "compile_report.md"
    page.write_text(f"before\n{compile_report.START}\nold\n{compile_report.END}\nafter\n")
    monkeypatch.setattr(compile_report, "PAGE", page)
    monkeypatch.setattr(compile_report, "RESULTS", tmp_path / "compile_report.json")
    for flops in (1e12, 2e12):  # the second one takes the first one's place
        compile_report.save(REPORT._replace(flops=flops))
    assert len(json.loads((tmp_path / "compile_report.json").read_text())) == 1
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    (row,) = [line for line in lines if "`known`" in line]
    assert "2.00 of 95 GiB" in row
    assert "| 2.0 |" in row


def test_gpus_are_estimated_alone():
    report = REPORT._replace(topology="h200", chips=1, capacity=int(141e9), collectives=[])
    assert compile_report.estimate(report, 1).total == pytest.approx(0.459e12 / 989e12)
    assert compile_report.table([report._asdict()]).endswith("| 0 ms |  |  |  |")
    assert not [line for line in compile_report.describe(report).splitlines() if line.startswith("      8")]


def test_a_chip_that_is_not_known_is_said(tiny_config):
    with pytest.raises(ValueError, match=f"known chips are {', '.join(CHIPS)}"):
        compile_report.compile_step(tiny_config, "v2:2x2", batch_per_chip=1)


@pytest.mark.parametrize("name", ["v5p", "v5p:axb", "v5e:4", "h200:x", "h200:0"])
def test_a_topology_without_a_shape_is_said(name):
    with pytest.raises(ValueError, match=f"topology {name}: write it as in {name[:3]}"):
        find_target(name)


def test_chips_that_do_not_divide_are_said(tiny_config, monkeypatch):
    target = Target("v5e", np.array(jax.devices() * 4), "xla")
    monkeypatch.setattr(compile_report, "find_target", lambda name: target)
    shared = dataclasses.replace(tiny_config, devices=dataclasses.replace(tiny_config.devices, fsdp=3))
    with pytest.raises(ValueError, match="--fsdp 3 does not divide the 4 chips of v5e:2x2"):
        compile_report.compile_step(shared, "v5e:2x2", batch_per_chip=2)
    parts = dataclasses.replace(tiny_config, optimizer=dataclasses.replace(tiny_config.optimizer, accumulate=2))
    for batch in (0, 3):
        with pytest.raises(ValueError, match=f"--batch-per-chip is {batch}, it must be at least 1 and a multiple of"):
            compile_report.compile_step(parts, "v5e:2x2", batch_per_chip=batch)


@pytest.mark.slow
def test_a_step_compiles_for_a_slice(tiny_config, monkeypatch):
    """Needs libtpu; half a minute."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip('needs the TPU compiler: pip install "jax[tpu]"')
    for name, value in TPU_VARIABLES.items():
        monkeypatch.setenv(name, value)
    report = compile_report.compile_step(tiny_config, "v5e:2x2", batch_per_chip=2)
    assert report.chips == 4
    parameters = report.memory["parameters"]
    # What chips send each other is the gradient, statistics of the prototypes and a few sums.
    assert parameters < sum(one.bytes for one in report.collectives) < parameters + 100_000
