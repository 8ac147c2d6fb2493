"""When the rasteriser's lists grow, by how much, and what is said of it."""

import logging

import numpy as np

from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.rendering import Capacities
from sheap_jax.training.raster_capacity import FILE, MOST_TIMES, GrowingCapacity

FIRST, MOST_GROWTHS = Capacities(1024, 512), 4


def make(folder, first=FIRST, **options) -> GrowingCapacity:
    return GrowingCapacity(folder, RenderSettings(96), first, most_growths=MOST_GROWTHS, **options)


def test_nothing_changes_while_everything_fits(tmp_path):
    capacity = make(tmp_path)
    assert not capacity.grow(10, np.array([0, 0]))
    assert capacity.settings == RenderSettings(96)
    assert not (tmp_path / FILE).exists()


def test_both_lists_grow_to_what_was_missing(tmp_path, caplog):
    capacity = make(tmp_path)
    assert capacity.grow(10, np.array([1500, 1]))
    assert (capacity.settings.surfel_capacity, capacity.settings.mesh_capacity) == (4096, 1024)
    assert (
        "no room for 1500 entries of one image: surfel_capacity grows from 1024 to 4096 (growth 1 of 4)" in caplog.text
    )
    assert "lower the learning rates" in caplog.text


def test_a_restart_takes_what_had_grown_by_its_step(tmp_path):
    capacity = make(tmp_path)
    capacity.grow(10, np.array([1, 0]))
    capacity.grow(20, np.array([1, 0]))
    assert capacity.settings.surfel_capacity == 4096
    assert make(tmp_path, resume_step=20).settings == capacity.settings
    again = make(tmp_path, resume_step=15)  # the checkpoint is older than the second growth, which will come again
    assert again.settings.surfel_capacity == 2048
    again.grow(20, np.array([1, 0]))
    assert make(tmp_path, resume_step=20).settings == capacity.settings


def test_growth_ends(tmp_path, caplog):
    """After some growths, or at some times the first length, it is said once and the run goes on."""
    capacity = make(tmp_path)
    assert capacity.grow(1, np.array([10**9, 0]))
    assert capacity.settings.surfel_capacity == MOST_TIMES * FIRST.surfels
    caplog.clear()
    for step in (2, 3):
        assert not capacity.grow(step, np.array([10**9, 0]))
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert "surfel_capacity grows no more" in said.message

    for step in range(4, 4 + MOST_GROWTHS - 1):
        assert capacity.grow(step, np.array([0, 1]))
    assert not capacity.grow(99, np.array([0, 1]))
    assert not make(tmp_path, resume_step=99).grow(100, np.array([0, 1]))


def test_a_z_buffer_without_a_list_cannot_grow(tmp_path, caplog):
    capacity = make(tmp_path, Capacities(1024, None))
    assert not capacity.grow(1, np.array([0, 7]))
    assert "no room for 7 entries of one image, and mesh_capacity grows no more" in caplog.text


def test_lengths_of_another_rasteriser_are_not_taken_over(tmp_path):
    """Where there is no list for the mesh, its old length would cut faces off; a first length may be larger."""
    make(tmp_path).grow(10, np.array([1, 1]))
    other = make(tmp_path, Capacities(8192, None), resume_step=10)
    assert other.settings == RenderSettings(96, surfel_capacity=8192)
