"""The picture grid of a training run: source | target | render | mesh over the target | normals of the mesh."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import UInt8

from sheap_jax.files.pictures import reanimation_grid
from sheap_jax.method import reanimation
from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.reanimation import Assets, Networks, Rendering
from sheap_jax.training import sharding
from sheap_jax.training.state import Params, TrainState
from sheap_jax.types import Batch, PrototypeState

ROWS = 6


def make_pictures(
    networks: Networks, state: TrainState, assets: Assets, batch: Batch, settings: RenderSettings, *, mesh: Mesh | None
) -> UInt8[np.ndarray, "h w 3"]:
    """The first pairs of a batch on the devices as one picture, a row each. All processes must call it together."""
    first, rendering = _render(networks, settings, mesh)(state, assets, batch)
    first: Any = jax.tree.map(np.asarray, first)
    color = np.clip(np.asarray(rendering.surfels.color), 0.0, 1.0)
    normal, mask = np.asarray(rendering.mesh.normal), np.asarray(rendering.mesh.mask)
    return reanimation_grid(first.source.image, first.target.image, color, normal, mask)


@functools.cache
def _render(networks: Networks, settings: RenderSettings, mesh: Mesh | None):
    """The jitted re-animation, compiled once per run; every device renders its share of the batch."""

    def render(params: Params, prototypes: PrototypeState, assets: Assets, batch: Batch) -> Rendering:
        pair = reanimation.estimate_pair(networks, params, assets, batch.source.image, batch.target.image)
        avatar = reanimation.build_avatar(networks, params, assets, prototypes, pair)
        background = reanimation.border_color(batch.target.image)
        return reanimation.render(assets, avatar, pair.target.vertices, background, **settings._asdict())

    rows = P(sharding.AXES)
    on_devices = sharding.on_devices(render, mesh, in_specs=(P(), P(), P(), rows), out_specs=rows)

    def first_rows(state: TrainState, assets: Assets, batch: Batch) -> tuple[Batch, Rendering]:
        rendering = on_devices(state.params, state.prototypes, assets, batch)
        return jax.tree.map(lambda x: x[:ROWS], (batch, rendering))

    return jax.jit(first_rows, out_shardings=sharding.replicated(mesh))
