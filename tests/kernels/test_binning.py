"""The entry lists against a brute-force enumeration in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tileraster.tiling import binning
from tileraster.tiling.binning import ScreenBoxes, TileGrid, bin_primitives, default_capacity, tile_rectangles

GRID = TileGrid(width=37, height=21, tile=8)


def random_boxes(batch=2, count=30, seed=0):
    rng = np.random.default_rng(seed)
    center = rng.uniform([-10, -10], [50, 30], size=(batch, count, 2))
    half = rng.exponential(5, size=(batch, count, 2))
    depth = rng.choice([1.0, 2.0, 3.0, 4.0], size=(batch, count))  # many ties
    visible = rng.uniform(size=(batch, count)) > 0.2
    arrays = (jnp.asarray(value, jnp.float32) for value in (center - half, center + half, depth))
    return ScreenBoxes(*arrays, visible=jnp.asarray(visible))


def expected_lists(boxes):
    """Per image and tile, the primitives whose box meets the tile, by depth and then by index."""
    lists = []
    for image in range(boxes.depth.shape[0]):
        order = np.argsort(np.asarray(boxes.depth[image]), kind="stable")
        for tile in range(GRID.tiles):
            corner = np.array([tile % GRID.columns, tile // GRID.columns]) * GRID.tile
            low, high = np.asarray(boxes.low[image]), np.asarray(boxes.high[image])
            meets = ((low < corner + GRID.tile) & (high >= corner)).all(axis=-1) & np.asarray(boxes.visible[image])
            lists.append([image * boxes.depth.shape[1] + k for k in order if meets[k]])
    return lists


@pytest.mark.parametrize("two_keys", [False, True])
def test_every_tile_lists_its_primitives_in_depth_order(monkeypatch, two_keys):
    if two_keys:  # what happens where tile and rank do not fit one 32-bit key
        real = binning._sort
        monkeypatch.setattr(
            binning, "_sort", lambda tile, rank, tiles, ranks: real(tile, rank, tiles=tiles, ranks=1 << 31)
        )
    boxes = random_boxes()
    bins = jax.jit(lambda boxes: bin_primitives(boxes, GRID, capacity=512))(boxes)
    row, start, end = (np.asarray(value) for value in (bins.row, bins.tile_start, bins.tile_end))
    assert [row[a:b].tolist() for a, b in zip(start, end, strict=True)] == expected_lists(boxes)
    assert not np.asarray(bins.overflow).any()


def test_slots_of_a_primitive_lie_side_by_side():
    bins = bin_primitives(random_boxes(), GRID, capacity=512)
    row, slot, first, entries = (np.asarray(v) for v in (bins.row, bins.slot, bins.first, bins.entries))
    for k in range(60):
        assert sorted(slot[row == k]) == list(range(first[k], first[k] + entries[k]))


@pytest.mark.parametrize("capacity", [512, 64])
def test_both_ways_to_sum_entries_agree(capacity):
    bins = bin_primitives(random_boxes(), GRID, capacity=capacity)
    row, slot = np.asarray(bins.row), np.asarray(bins.slot)
    values = np.random.default_rng(1).normal(size=(2 * capacity, 3)).astype(np.float32)
    expected = np.zeros((60, 3))
    for k, s in zip(row, slot, strict=True):
        if k < 60:
            expected[k] += values[s]
    for add in (binning._sum_in_order, binning._sum_side_by_side):
        np.testing.assert_allclose(np.asarray(add(jnp.asarray(values), bins)), expected, atol=1e-5)


def test_overflow_counts_what_does_not_fit():
    boxes = random_boxes()
    total = [sum(map(len, part)) for part in np.array_split(np.array(expected_lists(boxes), dtype=object), 2)]
    bins = bin_primitives(boxes, GRID, capacity=64)
    np.testing.assert_array_equal(np.asarray(bins.overflow), np.maximum(np.array(total) - 64, 0))
    assert int(bins.entries.sum()) == sum(min(value, 64) for value in total)


@pytest.mark.parametrize("count", [1, 14, 500])
def test_default_capacity_holds_small_scenes_entirely(count):
    assert 0 <= default_capacity(count, GRID) - count * GRID.tiles < 64


@pytest.mark.parametrize("tile", [8, 16, 32])
@pytest.mark.parametrize(("count", "pixels"), [(2_000, 96), (5_000, 512), (20_000, 224)])
def test_default_capacity_fits_a_shell_with_room_to_spare_and_not_much_more(count, pixels, tile):
    """A sphere of discs, as large as their distance, that touches the borders of the image."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    center = (0.5 + 0.5 * normal[:, :2]) * pixels
    sigma = 0.6 * math.sqrt(math.pi / count) * pixels  # of a disc, in pixels
    # Three standard deviations of the disc, foreshortened.
    half = 3 * sigma * np.sqrt(1 - normal[:, :2] ** 2)
    ones = jnp.ones((count,))
    boxes = ScreenBoxes(jnp.asarray(center - half), jnp.asarray(center + half), ones, ones > 0)
    grid = TileGrid(pixels, pixels, tile)
    extent = np.asarray(tile_rectangles(boxes, grid).extent)
    needed = extent.prod(axis=-1).sum()
    assert 1.1 < default_capacity(count, grid) / needed < 3
