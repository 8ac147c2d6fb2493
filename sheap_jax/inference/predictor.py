"""A trained model as functions of images."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax import config_files, reanimation
from sheap_jax.config import Config
from sheap_jax.morphable.named import load_morphable
from sheap_jax.training import setup
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints
from sheap_jax.training.state import TrainState
from sheap_jax.types import HeadParams

BATCH = 16  # images per call of the compiled function; the last one is padded


class Predictor:
    """Head parameters and re-animations from a run directory.

    Images are float32 [n, h, w, 3] in [0, 1], any n, crops as in training and of the training's size.
    """

    def __init__(self, directory: str | Path):
        """Raises CheckpointError or ConfigError if `directory` holds no finished training checkpoint."""
        directory = Path(directory)
        if not (directory / "config.json").exists():
            raise CheckpointError(f"{directory} is no run directory: it has no config.json; train.py makes them")
        self.config: Config = config_files.load_json(directory / "config.json")
        self.model = load_morphable(self.config.morphable)
        self.assets = setup.build_assets(self.config, self.model, training=False)
        self.networks = setup.build_networks(self.config, self.model)
        self.state = self._restore(directory)

    def predict(self, images: Float[Array, "n h w 3"]) -> HeadParams:
        """Head parameters of each image as numpy arrays: radians and metres, in the frame of the official camera."""
        return _in_batches(self._estimate, np.asarray(images))

    def reanimate(self, source: Float[Array, "n h w 3"], target: Float[Array, "n h w 3"]) -> np.ndarray:
        """The person of each source image with the target's pose and expression, rendered [n, h, w, 3] in [0, 1]."""
        return _in_batches(self._render, np.asarray(source), np.asarray(target))

    @functools.cached_property
    def _estimate(self):
        params = self.state.params["estimator"]

        def estimate(images):
            output: Any = self.networks.estimator.apply({"params": params}, images)
            return output.estimate.head

        return jax.jit(estimate)

    @functools.cached_property
    def _render(self):
        state, config = self.state, self.config

        def render(source, target):
            pair = reanimation.estimate_pair(self.networks, state.params, self.assets, source, target)
            avatar = reanimation.build_avatar(self.networks, state.params, self.assets, state.prototypes, pair)
            background = reanimation.border_color(target)
            settings = setup.render_settings(config, None)
            rendering = reanimation.render(self.assets, avatar, pair.target.vertices, background, **settings._asdict())
            return jnp.clip(rendering.surfels.color, 0.0, 1.0)

        return jax.jit(render)

    def _restore(self, directory: Path) -> TrainState:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.eval_shape(lambda: setup.initial_state(self.config, self.networks, self.assets))
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
        checkpoints = Checkpoints(directory)
        state = checkpoints.restore(like)
        checkpoints.close()
        if state is None:
            raise CheckpointError(f"{directory} holds no finished checkpoint yet")
        return state


def _in_batches(function, *arrays: np.ndarray):
    """Apply `function` to slices of BATCH rows, the last one padded with copies, and join what it returns."""
    count = len(arrays[0])
    parts = []
    for start in range(0, count, BATCH):
        rows = np.minimum(np.arange(start, start + BATCH), count - 1)
        parts.append(jax.tree.map(np.asarray, function(*(array[rows] for array in arrays))))
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
