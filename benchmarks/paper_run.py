"""A run of the paper's size that needs no file: random weights, random images, our own head in FLAME's place."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax import assembly, geometry
from sheap_jax.ahead_of_time.abstract_run import abstract_run
from sheap_jax.config import Config
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.models.graph_network import face_neighbourhood
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start
from sheap_jax.training.state import TrainState
from sheap_jax.types import Batch, Frame

FLAME_LIKE = "embedded:fine"  # 10,718 triangles, FLAME has 9,976


class RandomRun(NamedTuple):
    config: Config
    networks: Networks
    assets: Assets
    state: TrainState


def random_run(config: Config, *, head: str = FLAME_LIKE) -> RandomRun:
    """What `sheap train` makes of `config`, with random weights where a file is named and `head` in place of FLAME.

    The first prediction is the mean head before the camera, covered by half opaque surfels: the rasteriser has as much
    to do as in training.
    """
    config = dataclasses.replace(config, morphable=head)
    shapes = abstract_run(config, batch_size=1)
    model = load_morphable(head)
    assets = Assets(
        model=jax.tree.map(jnp.asarray, model),
        neighbourhood=face_neighbourhood(np.asarray(model.faces)),
        light_prior=assembly.light_prior("generated", config.estimator.light_components),
        camera=geometry.official_camera(config.image_size),
        frozen=_random_like(shapes.assets.frozen),
    )
    return RandomRun(config, shapes.networks, assets, start.initial_state(config, shapes.networks, assets))


def random_batch(config: Config, batch_size: int, *, seed: int = 0) -> Batch:
    """Pairs of blurred noise, with landmarks anywhere."""
    rng, side = np.random.default_rng(seed), config.image_size

    def frame() -> Frame:
        coarse = rng.uniform(size=(batch_size, -(-side // 8), -(-side // 8), 3)).astype(np.float32)
        image = jax.image.resize(coarse, (batch_size, side, side, 3), "linear")
        landmarks = rng.uniform(0.2 * side, 0.8 * side, size=(batch_size, 68, 2)).astype(np.float32)
        return Frame(image, jnp.asarray(landmarks), jnp.ones((batch_size, 68)))

    record: Any = jnp.zeros((batch_size, 2), jnp.int32)
    return Batch(frame(), frame(), record)


def _random_like(shapes: Any) -> Any:
    """Weights small enough that no network overflows in bfloat16."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

    return jax.tree.map(draw, shapes)
