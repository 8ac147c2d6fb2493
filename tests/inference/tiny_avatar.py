"""A run of random weights on a morphable ellipsoid, and an avatar with surfels at random that such a run could make.

Both have the same model file and as many surfels, so that what is compiled for one serves the other.
"""

import dataclasses
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax import assembly
from sheap_jax.inference.avatar import RiggedSurfels
from sheap_jax.inference.predictor import Predictor, RunParts
from sheap_jax.method import prototypes
from sheap_jax.morphable.model import mean_params
from sheap_jax.morphable.storage import load_model
from sheap_jax.training.start import initial_state
from sheap_jax.training.state import Learned
from sheap_jax.types import LocalSurfels, PrototypeState
from tests.training.conftest import make_config

SIZE = 32  # pixels of the run's images


@functools.cache
def tiny_predictor() -> Predictor:
    """Nothing is compiled for it: the weights are drawn to the shapes that training would start from."""
    config = dataclasses.replace(make_config(Path(tempfile.mkdtemp())), rasterizer="reference")
    model, rng = load_model(config.morphable), np.random.default_rng(1)
    assets, networks = assembly.build_assets(config, model, training=False), assembly.build_networks(config, model)
    state = jax.eval_shape(lambda: initial_state(config, networks, assets))
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), state.params)
    start = _prototypes(model.faces.shape[0])
    learned = Learned(jnp.zeros((), jnp.int32), params, start)
    return Predictor.from_parts(config, model, RunParts(assets, networks, learned))


@functools.cache
def tiny_avatar() -> RiggedSurfels:
    """A surfel on each face."""
    model, rng = tiny_predictor().model, np.random.default_rng(0)
    count = model.faces.shape[0]
    start = _prototypes(count)
    local = LocalSurfels(
        offset=0.1 * rng.normal(size=(count, 3)),
        scale=rng.uniform(0.3, 0.6, (count, 3)),
        rotation=np.array([1.0, 0, 0, 0]) + 0.2 * rng.normal(size=(count, 4)),
        albedo=rng.uniform(0.1, 0.9, (count, 3)),
        opacity=rng.uniform(0.2, 1.0, count),
    )
    return RiggedSurfels(
        parent_face=start.parent_face[:count],
        barycentric=start.barycentric[:count],
        local=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), local),
        light=jnp.zeros((9, 3)).at[0].set(1.1).at[3].set(0.2),
        head=mean_params(model)._replace(shape=jnp.array([1.0, -1.0, 0.5]), expression=jnp.array([0.5, 0.2])),
        morphable=tiny_predictor().config.morphable,
    )


def _prototypes(faces: int) -> PrototypeState:
    """One active on each face, and inactive slots."""
    return prototypes.init_prototypes(faces, per_face=1, capacity=round(1.5 * faces))
