"""The networks of a run as functions of images, while they are trained: what a held-out score is computed from."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from sheap_jax.cropping import Framing
from sheap_jax.method import reanimation
from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.morphable import MorphableModel
from sheap_jax.training import sharding
from sheap_jax.training.state import Params, TrainState
from sheap_jax.types import HeadParams, PrototypeState


class CurrentNetwork:
    """The networks with the parameters of one state; compiled once, whatever the state.

    Every device takes its share of the images. All processes must call it together, with the same images; each gets
    all results.
    """

    framing: Framing = "pixels"  # of the crops

    def __init__(
        self, networks: Networks, assets: Assets, state: TrainState, settings: RenderSettings, *, mesh: Mesh | None
    ):
        self._networks, self._assets, self._state = networks, assets, state
        self._settings, self._mesh = settings, mesh

    @property
    def model(self) -> MorphableModel:
        return jax.tree.map(np.asarray, self._assets.model)

    def __call__(self, images: Float[Array | np.ndarray, "n h w 3"], /) -> HeadParams:
        """Head parameters of each image as NumPy arrays, in the frame of the official camera."""
        estimate = _estimate(self._networks, self._mesh)
        return self._by_rows(lambda rows: estimate(self._state.params, rows), images)

    def reanimate(
        self, source: Float[Array | np.ndarray, "n h w 3"], target: Float[Array | np.ndarray, "n h w 3"], /
    ) -> Float[np.ndarray, "n h w 3"]:
        """The person of each source image with the target's pose and expression, rendered in [0, 1]."""
        state, render = self._state, _reanimate(self._networks, self._settings, self._mesh)
        rows = (source, target)
        return self._by_rows(lambda rows: render(state.params, state.prototypes, self._assets, *rows), rows)

    def _by_rows(self, function: Any, rows: Any) -> Any:
        """`function` of rows that are padded to a number that the devices can share."""
        count = len(jax.tree.leaves(rows)[0])
        devices = 1 if self._mesh is None else self._mesh.size
        chosen = np.minimum(np.arange(-(-count // devices) * devices), count - 1)
        placed = sharding.place_rows(jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], rows), self._mesh)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], function(placed))


@functools.cache
def _estimate(networks: Networks, mesh: Mesh | None):
    def estimate(params: Params, images: Float[Array, "b h w 3"]) -> HeadParams:
        output: Any = networks.estimator.apply({"params": params["estimator"]}, images)
        return output.estimate.head

    rows = P(sharding.AXES)
    on_devices = sharding.on_devices(estimate, mesh, in_specs=(P(), rows), out_specs=rows)
    return jax.jit(on_devices, out_shardings=sharding.replicated(mesh))


@functools.cache
def _reanimate(networks: Networks, settings: RenderSettings, mesh: Mesh | None):
    def render(
        params: Params, prototypes: PrototypeState, assets: Assets, source: Float[Array, "b h w 3"], target: Any
    ) -> Float[Array, "b h w 3"]:
        pair = reanimation.estimate_pair(networks, params, assets, source, target)
        avatar = reanimation.build_avatar(networks, params, assets, prototypes, pair)
        background = reanimation.border_color(target)
        rendering = reanimation.render(assets, avatar, pair.target.vertices, background, **settings._asdict())
        return jax.numpy.clip(rendering.surfels.color, 0.0, 1.0)

    rows = P(sharding.AXES)
    on_devices = sharding.on_devices(render, mesh, in_specs=(P(), P(), P(), rows, rows), out_specs=rows)
    return jax.jit(on_devices, out_shardings=sharding.replicated(mesh))
