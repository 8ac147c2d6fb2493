"""The networks that a configuration describes, and the published weights it names."""

import functools
import logging
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sheap_jax.config import Config
from sheap_jax.models.dinov2 import dinov2_network
from sheap_jax.models.estimator import HeadEstimator
from sheap_jax.models.perceptual import Lpips
from sheap_jax.models.positions import resize_positions
from sheap_jax.models.regressor import GaussianRegressor
from sheap_jax.models.transformer import STYLES, Dtype
from sheap_jax.models.vit import Vit
from sheap_jax.models.weights import Params, load_weights, merge
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import JOINT_NAMES
from sheap_jax.types import MAX_PER_FACE

log = logging.getLogger(__name__)

ESTIMATOR_STYLES = ("plain", "farl")


class HeadSizes(NamedTuple):
    """What the estimator must know of a morphable model."""

    shapes: int
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    name: str


def head_sizes(model: MorphableModel) -> HeadSizes:
    return HeadSizes(model.identity_basis.shape[0], model.expression_names, model.joint_names, model.name)


def build_estimator(config: Config, head: HeadSizes) -> HeadEstimator:
    """The estimator, sized for the morphable model.

    Raises ValueError for joints that the model cannot have, an unknown style, or weights that the settings cannot take.
    """
    size = config.estimator
    free = free_joints(size.free_joints, head)
    if size.style not in ESTIMATOR_STYLES:
        raise ValueError(f"config.estimator.style is {size.style!r}, it must be one of {', '.join(ESTIMATOR_STYLES)}")
    if config.weights.estimator and (size.style != "farl" or size.from_scratch):
        raise ValueError("config.weights.estimator needs config.estimator.style='farl' and from_scratch=False")
    eyelids = tuple(i for i, name in enumerate(head.expression_names) if name.startswith("eyelid"))
    return HeadEstimator(
        num_shape=head.shapes,
        num_expression=len(head.expression_names),
        num_light=size.light_components,
        num_joints=len(head.joint_names),
        free_joints=free,
        fixed_expressions=() if size.eyelids else eyelids,
        feature_dim=size.feature_dim,
        patch=size.patch,
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        grid=config.image_size // size.patch,
        head_width=size.head_width,
        dtype=network_dtype(config),
        remat=size.remat,
        from_scratch=size.from_scratch,
        nonnegative_expression=size.nonnegative_expression,
        style=STYLES[size.style],
    )


def free_joints(names: tuple[str, ...], head: HeadSizes) -> tuple[int, ...]:
    """Indices of the joints that `config.estimator.free_joints` names.

    A joint that only other head models have is left out, and the log says so: ICT has no jaw, its expressions open the
    mouth. Raises ValueError for a name that no model has, and for a model without root.
    """
    has = f"the joints of {head.name} are {', '.join(head.joint_names)}"
    if "root" in names and "root" not in head.joint_names:
        raise ValueError(f"the morphable model {head.name} has no root joint: {has}")
    unknown = [name for name in names if name not in (*head.joint_names, *JOINT_NAMES)]
    if unknown:
        raise ValueError(f"config.estimator.free_joints names {', '.join(unknown)}, which no model has: {has}")
    absent = [name for name in names if name not in head.joint_names]
    if absent:
        _say_once(f"{', '.join(absent)} of config.estimator.free_joints left out: {has}")
    return tuple(head.joint_names.index(name) for name in names if name not in absent)


def build_regressor(config: Config) -> GaussianRegressor:
    size = config.regressor
    fixed = config.prototypes.densify_every == 0
    return GaussianRegressor(
        kind=size.kind,
        isotropic=size.isotropic,
        uv_size=size.uv_size,
        uv_channels=size.uv_channels,
        uv_widest=size.uv_widest,
        attention_size=size.attention_size,
        embedding_dim=size.embedding_dim,
        width=size.graph_width,
        depth=size.graph_depth,
        source_colors=size.source_colors,
        most_per_face=config.prototypes.per_face if fixed else MAX_PER_FACE,
        dtype=network_dtype(config),
    )


def build_dinov2(config: Config) -> Vit | None:
    """The frozen feature network, if the configuration names its weights."""
    path = config.weights.dinov2
    if not path:
        return None
    return dinov2_network(load_weights(path, "dinov2", arrays=False).architecture, dtype=network_dtype(config))


def build_lpips(config: Config) -> Lpips | None:
    """The perceptual network, if the configuration names its weights; says once in the log when the term is off."""
    path = config.weights.lpips
    if path:
        stages = load_weights(path, "lpips", arrays=False).architecture["stages"]
        return Lpips(stages=tuple(tuple(stage) for stage in stages), dtype=network_dtype(config))
    if config.losses.perceptual > 0:
        _say_once("config.weights.lpips is empty: training without the perceptual term")
    return None


@functools.cache
def _say_once(message: str) -> None:
    log.info(message)


def frozen_params(config: Config, *, training: bool) -> dict[str, Params]:
    """Parameters of the frozen networks by name, "dinov2" and "lpips"; LPIPS only serves training."""
    paths = {"dinov2": config.weights.dinov2, "lpips": config.weights.lpips if training else ""}
    return {name: load_weights(path, name).params for name, path in paths.items() if path}


def check_estimator_weights(config: Config, params: Params) -> None:
    """Raises OSError or ValueError if the weights that the configuration names for the estimator do not fit `params`.

    Shapes alone do not tell: the number of heads is in none, and a deeper network would take a shallower one's blocks.
    """
    path, size = config.weights.estimator, config.estimator
    sizes = load_weights(path, "farl", "sheap", arrays=False).architecture
    names = [name for name in ("patch", "width", "depth", "heads") if sizes.get(name) != getattr(size, name)]
    if names:
        rows = [f"config.estimator.{name} is {getattr(size, name)}, not {sizes.get(name)}" for name in names]
        raise ValueError(f"the weights {path} are of another size: {', '.join(rows)}")
    pretrained_estimator(path, params)


def pretrained_estimator(path: str | Path, params: Params) -> Params:
    """The estimator's parameters with those of converted FaRL weights, or of the official release, in place.

    The five tokens and what else a file lacks stay as they are; position grids of another size are resized.

    Raises ValueError if the weights do not fit.
    """
    weights = load_weights(path, "farl", "sheap")
    start = weights.params if weights.network == "sheap" else {"vit": weights.params}
    positions, grid = start["vit"]["positions"], params["vit"]["positions"].shape
    resized = resize_positions(jnp.asarray(positions), *grid[:2]).reshape(*grid[:2], -1)
    start = start | {"vit": start["vit"] | {"positions": np.asarray(resized)}}
    return merge(params, start, where=str(path))


def network_dtype(config: Config) -> Dtype:
    return jnp.bfloat16 if config.estimator.bfloat16 else jnp.float32
