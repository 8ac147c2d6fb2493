"""Scenes for timing the rasteriser: shells of surfels with the size of a head."""

import jax.numpy as jnp
import numpy as np
import tileraster
from tileraster.tiling.binning import TileGrid, default_capacity
from tileraster.types import SplatInputs

HEAD_AXES = np.array([0.075, 0.1, 0.085])  # metres


def head_shell(count: int, pixels: int, batch: int, *, scales: int = 2, seed: int = 0) -> SplatInputs:
    """Splats that cover an ellipsoid of a head's size, one metre in front of a camera that it fills.

    Surfels; with `scales` 3 ellipsoids, a fifth as thick as wide.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(batch, count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    normal = direction / HEAD_AXES
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    # The shortest rotation from +z to the normal.
    quats = np.stack([1 + normal[..., 2], -normal[..., 1], normal[..., 0], np.zeros((batch, count))], axis=-1)
    spacing = np.sqrt(4 * np.pi * 0.0075 / count)
    viewmat = np.diag([1.0, -1.0, -1.0, 1.0])
    viewmat[2, 3] = 1.0
    intrinsics = np.array([[4.0 * pixels, 0, pixels / 2], [0, 4.0 * pixels, pixels / 2], [0, 0, 1]])
    size = 0.6 * spacing * np.exp(0.3 * rng.normal(size=(batch, count, 2)))
    thickness = np.full((batch, count, scales - 2), 0.12 * spacing)
    arrays = (
        direction * HEAD_AXES,
        quats,
        np.concatenate([size, thickness], axis=-1),
        1 / (1 + np.exp(-1 - 1.5 * rng.normal(size=(batch, count)))),
        rng.uniform(size=(batch, count, 3)),
        np.broadcast_to(viewmat, (batch, 4, 4)),
        np.broadcast_to(intrinsics, (batch, 3, 3)),
        np.zeros((batch, 3)),
        np.zeros((batch, count, 2)),
    )
    return SplatInputs(*(jnp.asarray(value, jnp.float32) for value in arrays))


def capacity_for(inputs: SplatInputs, grid: TileGrid, implementation: str) -> int:
    """The default capacity, or more where the scene needs it: few splats that fill a large image touch many tiles."""
    arrays = inputs.means, inputs.quats, inputs.scales, inputs.opacities, inputs.viewmats, inputs.intrinsics
    size = {"width": grid.width, "height": grid.height}
    needed = tileraster.measure_capacity(*arrays, **size, headroom=1.0, implementation=implementation)
    return max(default_capacity(inputs.opacities.shape[1], grid), needed)
