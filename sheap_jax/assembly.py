"""From a configuration to the parts of a run, for training and for prediction."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax import geometry
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError
from sheap_jax.data.pair_table import build_pair_table
from sheap_jax.data.records import Split
from sheap_jax.method import basel_prior, lighting
from sheap_jax.method.lighting import LightPrior
from sheap_jax.method.losses.true_shape import TrueShapes
from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.method.rendering import SCALED_AXES
from sheap_jax.models import build
from sheap_jax.models.graph_network import face_neighbourhood
from sheap_jax.morphable import MorphableModel

MILLIMETRES = 1000.0  # in a metre


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
        truth=build_truth(config, model) if training and config.losses.true_shape else None,
    )


def build_truth(config: Config, model: MorphableModel) -> TrueShapes:
    """Constants of the term `losses.true_shape`: a row for each record of the training split.

    A model without the region "face" counts all over. Needs `config.data.embedded`, as config_checks.py makes sure.
    """
    from sheap_jax.data.embedded import people
    from sheap_jax.data.embedded.layers import vertex_normals

    data = config.data.embedded
    assert data is not None  # config_checks
    shapes = people.true_shapes("train", data, coefficients=len(model.identity_basis))
    normals = vertex_normals(model.template[None], model.faces)[0]
    along = jnp.einsum("svk,vk->sv", model.identity_basis, normals)
    face = model.regions.get("face")
    return TrueShapes(
        shapes=jnp.asarray(np.repeat(shapes, data.clips_per_identity * data.frames_per_clip, axis=0)),
        normal_modes=MILLIMETRES * (along if face is None else along[:, np.asarray(face) > 0.5]),
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


def render_settings(config: Config) -> RenderSettings:
    """How targets are rendered. Raises ValueError for an unknown primitive."""
    primitive = config.primitive
    if primitive not in SCALED_AXES:
        raise ValueError(f"config.primitive is {primitive!r}, it must be one of {', '.join(SCALED_AXES)}")
    return RenderSettings(config.image_size, config.rasterizer, primitive)


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
