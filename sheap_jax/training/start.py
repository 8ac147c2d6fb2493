"""The start of a training: its first state, its optimisers, and whether its parts fit together."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key
from tileraster.validation import choose_implementation

from sheap_jax.config import Config
from sheap_jax.method import prototypes, reanimation
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.method.source_colors import unseen
from sheap_jax.models import build
from sheap_jax.training import pretrained
from sheap_jax.training.checkpoint import finished_steps
from sheap_jax.training.optimizer import make_optimizer, make_schedule
from sheap_jax.training.state import Optimizers, TrainState, init_state


def build_schedules(config: Config) -> dict[str, optax.Schedule]:
    """Learning rates by step. When rendering begins, the estimator's restart and the regressor's starts.

    The estimator's geometry restarts at `rendered_share` of its rate, its heads for light and features ("appearance")
    at the whole.
    """
    options = config.optimizer
    shared = {"warmup_steps": options.warmup_steps, "final_share": options.final_share}
    geometry, appearance = (
        make_schedule(
            steps=config.steps,
            learning_rate=options.learning_rate,
            restart_step=config.geometry_steps,
            restart_share=share,
            **shared,
        )
        for share in (options.rendered_share, 1.0)
    )
    regressor = make_schedule(
        steps=config.steps - config.geometry_steps,
        learning_rate=options.regressor_learning_rate,
        restart_step=0,
        restart_share=1.0,
        **shared,
    )
    return {"estimator": geometry, "appearance": appearance, "regressor": regressor}


def build_optimizers(config: Config) -> Optimizers:
    """One optimiser for each network."""
    options, schedules = config.optimizer, build_schedules(config)
    rest = {
        "weight_decay": options.weight_decay,
        "clip_norm": options.clip_norm,
        "flat_moments": options.flat_moments,
    }
    return {
        "estimator": make_optimizer(
            schedules["estimator"], **rest, muon=options.muon, appearance=schedules["appearance"]
        ),
        "regressor": make_optimizer(schedules["regressor"], **rest, muon=False),
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
    """A first state with the weights that the configuration names: for everything, or for the estimator, if any.

    No part of `initial_state`: a checkpoint already holds these weights, and their file may be gone by then.
    """
    if config.weights.start:
        learned = pretrained.load_learned(pretrained.find(config.weights.start), state.learned)
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), learned, state.learned)
        return dataclasses.replace(state, params=placed.params, prototypes=placed.prototypes)
    path = config.weights.estimator
    if not path:
        return state
    own = state.params["estimator"]
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), build.pretrained_estimator(path, own), own
    )
    return dataclasses.replace(state, params=state.params | {"estimator": placed})


def check_fit(config: Config, networks: Networks, assets: Assets) -> None:
    """Whether networks, head model and weights fit together, by shapes alone.

    Raises ValueError if they do not, or if the rasteriser does not run on this device.
    """
    try:
        choose_implementation(config.rasterizer, jnp.float32)
    except ValueError as error:
        raise ValueError(f"config.rasterizer: {error}") from error
    state = jax.eval_shape(lambda: initial_state(config, networks, assets))
    if finished_steps(config.run_directory):
        return  # its checkpoint holds the weights
    if config.weights.start:
        _check_start(config.weights.start, state)
    elif config.weights.estimator:
        build.check_estimator_weights(config, state.params["estimator"])


def _check_start(name: str, state: TrainState) -> None:
    """ValueError, naming the field, if there are no weights of this name that fit a state."""
    start = pretrained.find(name)
    if not pretrained.is_pretrained(start):
        raise ValueError(f"config.weights.start: {start} holds no weights: make them with `sheap export RUN OUT/`")
    try:
        pretrained.load_learned(start, state.learned)
    except ValueError as error:
        raise ValueError(f"config.weights.start: {error}") from error


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
            unseen(start) if networks.regressor.source_colors else None,
        )
        return {"estimator": estimator["params"], "regressor": regressor["params"]}

    return jax.jit(both)()
