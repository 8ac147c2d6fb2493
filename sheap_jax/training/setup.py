"""From a configuration to the things a run is made of."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt8
from tileraster.validation import choose_implementation

from sheap_jax import basel_prior, geometry, lighting, prototypes, reanimation
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError
from sheap_jax.data.pair_table import build_pair_table
from sheap_jax.data.records import Split
from sheap_jax.lighting import LightPrior
from sheap_jax.models import build
from sheap_jax.models.graph_network import face_neighbourhood
from sheap_jax.morphable import MorphableModel
from sheap_jax.reanimation import Assets, Networks
from sheap_jax.rendering import SCALED_AXES
from sheap_jax.training.checkpoint import finished_steps
from sheap_jax.training.objective import RenderSettings
from sheap_jax.training.optimizer import make_optimizer, make_schedule
from sheap_jax.training.state import Optimizers, TrainState, init_state


def build_networks(config: Config, model: MorphableModel) -> Networks:
    """The modules, sized for the morphable model; frozen ones only where the configuration names their weights.

    Raises ConfigError if the regressor paints in a UV chart and the model has none, ValueError as `build_estimator`.
    """
    if not len(model.uv) and config.regressor.kind != "mlp":
        raise ConfigError(
            f"{config.morphable} has no texture coordinates, in which the UV generator paints: convert the model again "
            "with a file that has them (FLAME: --template head_template.obj, docs/flame.md)"
        )
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
        light_prior=light_prior(config.light, config.estimator.light_components),
        camera=geometry.official_camera(config.image_size),
        frozen=jax.tree.map(jnp.asarray, build.frozen_params(config, training=training)),
    )


def light_prior(name: str, components: int) -> LightPrior:
    """The prior that a configuration names: "generated", "none", or the folder of a Basel Illumination Prior."""
    if name == "none":
        return lighting.ambient_light_prior(components)
    if name == "generated":
        return lighting.default_light_prior(components)
    if not Path(name).is_dir():
        raise ValueError(f"config.light is {name!r}, it must be generated, none or a folder of the Basel prior")
    return basel_prior.load_basel_prior(name, components)


def build_optimizers(config: Config) -> Optimizers:
    """One for each network. When rendering begins the estimator's schedule starts anew, and the regressor's starts.

    The estimator's geometry starts anew at `rendered_share` of its rate, what it says of appearance at the whole.
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
    rest = {
        "weight_decay": options.weight_decay,
        "clip_norm": options.clip_norm,
        "flat_moments": options.flat_moments,
    }
    return {
        "estimator": make_optimizer(geometry, **rest, muon=options.muon, appearance=appearance),
        "regressor": make_optimizer(regressor, **rest, muon=False),
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
    primitive = config.primitive
    if primitive not in SCALED_AXES:
        raise ValueError(f"config.primitive is {primitive!r}, it must be one of {', '.join(SCALED_AXES)}")
    return RenderSettings(config.image_size, config.rasterizer, mesh, primitive)


def check_fit(config: Config, networks: Networks, assets: Assets) -> None:
    """Whether networks, head model and weights fit together, by shapes alone.

    Raises ValueError if they do not, or if the rasteriser does not run on this device.
    """
    try:
        choose_implementation(config.rasterizer, jnp.float32)
    except ValueError as error:
        raise ValueError(f"config.rasterizer: {error}") from error
    state = jax.eval_shape(lambda: initial_state(config, networks, assets))
    if config.weights.estimator and not finished_steps(config.run_directory):
        build.check_estimator_weights(config, state.params["estimator"])


def ensure_data(config: Config) -> Path:
    """Directory of the shards; embedded clips are generated on first use."""
    embedded = config.data.embedded
    if embedded is None:
        return Path(config.data.directory)
    from sheap_jax.data.embedded import generate, settings_name

    directory = Path(config.data.directory.replace("{settings}", settings_name(embedded)))
    if jax.process_count() > 1 and not directory.exists():
        raise OSError(f"{directory} is not there: several processes share it, start one alone first to generate it")
    return generate(directory, embedded)


def open_data(config: Config) -> Split:
    """The split to train on; embedded clips are generated on first use.

    Raises ShardError, OSError or ValueError if it is not there, is damaged or has no pairs.
    """
    split = Split(ensure_data(config), "train")
    data = config.data
    try:
        build_pair_table(split.index, across_clips=data.across_clips, allow_self_pairs=data.allow_self_pairs)
    except ValueError as error:
        raise ValueError(f"{split.directory}, split 'train': {error}") from error
    return split


def is_due(step: int, every: int) -> bool:
    """Whether something done every so many steps is due; `every` 0 means never."""
    return every > 0 and step % every == 0


def save_picture(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB picture as PNG."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])
