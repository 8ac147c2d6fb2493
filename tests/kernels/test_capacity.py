"""The measured capacity holds its scenes, and growing ends every overflow at once."""

import jax.numpy as jnp
import numpy as np
import pytest
from tileraster import (
    grow_capacity,
    initial_capacity,
    measure_capacity,
    rasterize_ellipsoids,
    rasterize_mesh,
    rasterize_surfels,
)
from tileraster.constants import CAPACITY_STEP
from tileraster.mesh import search_tpu
from tileraster.splats import surfels
from tileraster.tiling.binning import TileGrid, default_capacity

SIZE = {"width": 80, "height": 72}
COUNT = 300


def scene(columns: int) -> list:
    rng = np.random.default_rng(0)
    arrays = (
        rng.uniform([-0.5, -0.5, 1.0], [0.5, 0.5, 2.0], (2, COUNT, 3)),
        rng.normal(size=(2, COUNT, 4)),
        rng.uniform(0.02, 0.1, (2, COUNT, columns)),
        rng.uniform(0.2, 1, (2, COUNT)),
        np.tile(np.eye(4), (2, 1, 1)),
        np.tile([[80.0, 0, 40], [0, 80, 36], [0, 0, 1]], (2, 1, 1)),
    )
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def overflow(arrays: list, capacity: int) -> np.ndarray:
    rasterize = rasterize_surfels if arrays[2].shape[-1] == 2 else rasterize_ellipsoids
    colors = jnp.ones((*arrays[3].shape, 1))
    image = rasterize(*arrays[:4], colors, *arrays[4:], **SIZE, max_intersections=capacity)
    return np.asarray(image.overflow)


@pytest.mark.parametrize("columns", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_measured_capacity_is_the_smallest_that_fits(columns):
    arrays = scene(columns)
    capacity = measure_capacity(*arrays, **SIZE, headroom=1.0)
    assert overflow(arrays, capacity).max() == 0
    assert overflow(arrays, capacity - CAPACITY_STEP).max() > 0
    roomy = measure_capacity(*arrays, **SIZE, headroom=4.0)
    assert 4 * (capacity - CAPACITY_STEP) < roomy <= 4 * capacity


def test_entries_are_counted_on_the_tiles_of_the_implementation():
    arrays = scene(2)
    fine, coarse = (
        measure_capacity(*arrays, **SIZE, headroom=1.0, implementation=name) for name in ("xla", "pallas_tpu_interpret")
    )
    assert coarse < fine
    with pytest.raises(ValueError, match="reference"):
        measure_capacity(*arrays, **SIZE, implementation="reference")


def test_the_default_capacity_can_be_given():
    arrays = scene(2)
    grid = TileGrid(**SIZE, tile=8)
    assert overflow(arrays, default_capacity(COUNT, grid)).max() == 0
    # Above the size of small scenes it is no power of two.
    assert default_capacity(20_000, TileGrid(width=224, height=224, tile=8)) % CAPACITY_STEP == 0


class Asked(Exception):
    """Ends a call once it is known how long its list is: nothing is compiled."""


@pytest.mark.parametrize(("tile", "implementation"), [(8, "xla"), (32, "pallas_tpu_interpret")])
def test_the_initial_capacity_is_that_of_a_call_without_one(tile, implementation, monkeypatch):
    asked = []

    def record(*arguments, capacity):
        asked.append(capacity)
        raise Asked

    monkeypatch.setattr(surfels, "bin_primitives", record)
    arrays = scene(2)
    with pytest.raises(Asked):
        rasterize_surfels(
            *arrays[:4], jnp.ones((2, COUNT, 1)), *arrays[4:], width=73, height=70, implementation=implementation
        )
    grid = TileGrid(width=73, height=70, tile=tile)
    assert asked == [default_capacity(COUNT, grid)]
    options = {"width": 73, "height": 70, "implementation": implementation}
    assert [initial_capacity("surfels", COUNT, **options)] == asked

    monkeypatch.setattr(search_tpu, "bin_primitives", record)
    faces = jnp.zeros((COUNT, 3), jnp.int32)
    if implementation != "xla":  # which has no list of faces
        with pytest.raises(Asked):
            rasterize_mesh(arrays[0], faces, *arrays[4:], **options)
        assert initial_capacity("mesh", COUNT, **options) == asked[1]


def test_what_has_no_list_has_no_initial_capacity():
    assert initial_capacity("mesh", 100, **SIZE) is None  # on a CPU
    assert initial_capacity("surfels", 100, **SIZE, implementation="reference") is None
    assert initial_capacity("mesh", 5000, **SIZE, implementation="pallas_tpu_interpret") > 0
    with pytest.raises(ValueError, match="got 'cubes', wanted one of surfels, ellipsoids, mesh"):
        initial_capacity("cubes", 100, **SIZE)


def test_growing_once_is_enough_and_a_complete_image_changes_nothing():
    arrays = scene(2)
    lost = overflow(arrays, 256)
    assert lost.max() > 0
    grown = grow_capacity(256, lost)
    assert overflow(arrays, grown).max() == 0
    assert overflow(arrays, grown // 2).max() > 0
    assert grow_capacity(grown, overflow(arrays, grown)) == grown


def test_wrong_scales_are_named():
    arrays = scene(2)
    arrays[2] = arrays[2][..., :1]
    with pytest.raises(ValueError, match="scales"):
        measure_capacity(*arrays, **SIZE)


def test_nothing_visible_still_gives_a_capacity():
    arrays = scene(2)
    arrays[0] = arrays[0] - jnp.array([0, 0, 10.0])
    assert measure_capacity(*arrays, **SIZE, headroom=1.0) == CAPACITY_STEP
