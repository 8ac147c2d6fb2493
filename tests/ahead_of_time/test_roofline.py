"""The estimate against sums done by hand."""

import pytest

from sheap_jax.ahead_of_time.roofline import Assumptions, Chip, StepWork, step_time

CHIP = Chip(flops=1e12, memory=1e9, bandwidth=1e11, links=1e9, clock=1e9, axes=3, wrapped=8)
WORK = StepWork(flops=2e12, bytes=1e11, entries=1e6, bundles=50.0, reduced=1e9, gathered=0.0, transfers=0)


def test_one_chip_computes_and_rasterises():
    found = step_time(WORK, CHIP, Assumptions(), chips=1)
    assert found.compute == pytest.approx(2.0)  # 2e12 operations at 1e12 a second; memory would take 1 s
    assert found.rasterise == pytest.approx(0.05)
    assert found.transfer == 0
    assert found.total == pytest.approx(2.05)


def test_memory_counts_where_it_is_slower():
    found = step_time(WORK._replace(bytes=3e11, entries=0.0), CHIP, Assumptions(), chips=1)
    assert found.compute == pytest.approx(3.0)


def test_a_sum_over_chips_sends_almost_twice_its_bytes():
    assert step_time(WORK, CHIP, Assumptions(), chips=8).transfer == pytest.approx(2 * 7 / 8)
    assert step_time(WORK, CHIP, Assumptions(), chips=4).transfer == pytest.approx(2 * 2 * 3 / 4)  # half the links


def test_every_transfer_waits_for_its_links():
    """Eight chips as a cube of two: twice around three axes."""
    work = WORK._replace(reduced=0.0, transfers=10)
    assert step_time(work, CHIP, Assumptions(latency=1e-3), chips=8).transfer == pytest.approx(10 * 12e-3)


def test_shared_out_state_is_gathered_among_its_chips():
    work = WORK._replace(reduced=0.0, gathered=4e9)
    assert step_time(work, CHIP, Assumptions(), chips=8, fsdp=4).transfer == pytest.approx(3.0)


def test_overlap_hides_transfers():
    found = step_time(WORK, CHIP, Assumptions(overlap=1.0), chips=8)
    assert found.total == pytest.approx(found.compute + found.rasterise)
