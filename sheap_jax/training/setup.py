"""From a configuration to the things a run is made of."""

import dataclasses
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key, UInt8

from sheap_jax import config_files, geometry, lighting, prototypes, reanimation
from sheap_jax.config import Config
from sheap_jax.data.augment import float_batch
from sheap_jax.models import build
from sheap_jax.models.graph_network import face_neighbourhood
from sheap_jax.morphable import MorphableModel
from sheap_jax.reanimation import Assets, Networks
from sheap_jax.training.objective import RenderSettings
from sheap_jax.training.optimizer import make_optimizer, make_schedule
from sheap_jax.training.state import Optimizers, TrainState, init_state
from sheap_jax.types import Batch, RawBatch

T = TypeVar("T")


def build_networks(config: Config, model: MorphableModel) -> Networks:
    """The modules, sized for the morphable model; frozen ones only where the configuration names their weights."""
    return Networks(
        estimator=build.build_estimator(config, build.head_sizes(model)),
        regressor=build.build_regressor(config),
        dinov2=build.build_dinov2(config),
        lpips=build.build_lpips(config),
    )


def build_assets(config: Config, model: MorphableModel, *, training: bool = True) -> Assets:
    """The constant arrays of the method; what only the losses need is left out if not `training`."""
    return Assets(
        model=jax.tree.map(jnp.asarray, model),
        neighbourhood=face_neighbourhood(np.asarray(model.faces)),
        light_prior=lighting.default_light_prior(config.estimator.light_components),
        camera=geometry.official_camera(config.image_size),
        frozen=jax.tree.map(jnp.asarray, build.frozen_params(config, training=training)),
    )


def build_optimizers(config: Config) -> Optimizers:
    """One for each network. When rendering begins the estimator's schedule starts anew, and the regressor's starts."""
    options = config.optimizer
    shared = {"warmup_steps": options.warmup_steps, "final_share": options.final_share}
    estimator = make_schedule(
        steps=config.steps,
        learning_rate=options.learning_rate,
        restart_step=config.geometry_steps,
        restart_share=options.rendered_share,
        **shared,
    )
    regressor = make_schedule(
        steps=config.steps - config.geometry_steps,
        learning_rate=options.regressor_learning_rate,
        restart_step=0,
        restart_share=1.0,
        **shared,
    )
    limits = {"weight_decay": options.weight_decay, "clip_norm": options.clip_norm}
    return {
        "estimator": make_optimizer(estimator, **limits, muon=options.muon),
        "regressor": make_optimizer(regressor, **limits, muon=False),
    }


def initial_state(config: Config, networks: Networks, assets: Assets) -> TrainState:
    """Parameters at their start, prototypes two to a face (or as configured), step 0."""
    key = jax.random.key(config.seed, impl="rbg")
    estimator_key, regressor_key, state_key = jax.random.split(key, 3)
    faces = assets.model.faces.shape[0]
    start = prototypes.init_prototypes(
        faces,
        per_face=config.prototypes.per_face,
        capacity=round(faces * config.prototypes.capacity_per_face),
    )
    params = _init_params(networks, assets, start, config.image_size, estimator_key, regressor_key)
    return init_state(params, start, build_optimizers(config), state_key)


def start_from_weights(config: Config, state: TrainState) -> TrainState:
    """A first state with the published weights that the configuration names for the estimator, if any.

    Apart from `initial_state`, since a checkpoint holds them already and outlives the file.
    """
    path = config.weights.estimator
    if not path:
        return state
    own = state.params["estimator"]
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), build.pretrained_estimator(path, own), own
    )
    return dataclasses.replace(state, params=state.params | {"estimator": placed})


def _init_params(networks, assets, start, image_size, estimator_key: Key[Array, ""], regressor_key: Key[Array, ""]):
    """Both networks' parameters, traced on one empty image."""

    def both():
        image = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
        output, estimator = networks.estimator.init_with_output(estimator_key, image)
        regressor = networks.regressor.init(
            regressor_key,
            output.estimate.features,
            reanimation.context_tokens(networks, assets, image, output),
            start,
            reanimation.uv_anchors(assets.model, start),
            assets.neighbourhood,
        )
        return {"estimator": estimator["params"], "regressor": regressor["params"]}

    return jax.jit(both)()


def render_settings(config: Config, mesh: jax.sharding.Mesh | None) -> RenderSettings:
    return RenderSettings(config.image_size, config.rasterizer, mesh)


def start_run(config: Config) -> Path:
    """Make the run directory and write the configuration into it."""
    run = Path(config.run_directory)
    run.mkdir(parents=True, exist_ok=True)
    config_files.save_json(config, run / "config.json")
    return run


def ensure_data(config: Config) -> Path:
    """Directory of the shards; embedded clips are generated on first use."""
    embedded = config.data.embedded
    if embedded is None:
        return Path(config.data.directory)
    from sheap_jax.data.embedded import generate, settings_name

    return generate(config.data.directory.replace("{settings}", settings_name(embedded)), embedded)


def device_mesh(batch_size: int) -> jax.sharding.Mesh | None:
    """A mesh ("data",) over all devices; None on a single one.

    Raises ValueError if the batch cannot be shared out evenly.
    """
    count = jax.device_count()
    if count == 1:
        return None
    if batch_size % count:
        raise ValueError(f"config.batch_size {batch_size} is no multiple of the {count} devices")
    return jax.make_mesh((count,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicate(tree: T, mesh: jax.sharding.Mesh | None) -> T:
    """A copy of every array on every device of the mesh."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P()))


def shard(batch: RawBatch, mesh: jax.sharding.Mesh | None) -> Batch:
    """The batch's leading axis over the mesh's data axis; bytes become floats on the devices."""
    return _float_batch(batch if mesh is None else jax.device_put(batch, NamedSharding(mesh, P("data"))))


_float_batch = jax.jit(float_batch)


def is_due(step: int, every: int) -> bool:
    """Whether something done every so many steps is due; `every` 0 means never."""
    return every > 0 and step % every == 0


def save_picture(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB picture as PNG."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])
