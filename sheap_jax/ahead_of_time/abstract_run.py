"""A run as shapes alone: what the step needs to be compiled, without weights, head model or data on disk."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sheap_jax import geometry
from sheap_jax.ahead_of_time import network_summary
from sheap_jax.config import Config
from sheap_jax.method import lighting
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.models import build
from sheap_jax.models.dinov2 import dinov2_network
from sheap_jax.models.perceptual import Lpips
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start
from sheap_jax.training.state import TrainState
from sheap_jax.types import Batch, Frame

FLAME_VERTICES, FLAME_UV, FLAME_POSE = 5023, 5118, 36
CONTOUR_ROWS = 79  # FLAME's jaw line, by yaw


class AbstractRun(NamedTuple):
    """Modules, and jax.ShapeDtypeStruct in place of arrays."""

    networks: Networks
    assets: Assets
    state: TrainState
    batch: Batch
    notes: list[str]  # which published sizes stand in for files that are missing


def abstract_run(config: Config, *, batch_size: int) -> AbstractRun:
    """Shapes of everything that goes into a step of `batch_size` pairs.

    Where a file that the configuration names is missing, sizes are FLAME's, DINOv2 B/14's and LPIPS's.
    """
    sizes, notes = network_summary.head_of(config)
    model = _head_model(config, sizes)
    dinov2, more = _dinov2(config)
    dtype = build.network_dtype(config)
    networks = Networks(
        estimator=build.build_estimator(config, sizes.head),
        regressor=build.build_regressor(config),
        dinov2=dinov2,
        lpips=Lpips(dtype=dtype) if config.weights.lpips else None,
    )
    assets = Assets(
        model=model,
        neighbourhood=sizes.neighbourhood,
        light_prior=network_summary.shapes_of(lighting.default_light_prior(config.estimator.light_components)),
        camera=network_summary.shapes_of(geometry.official_camera(config.image_size)),
        frozen=_frozen_shapes(networks),
    )
    state = jax.eval_shape(lambda constants: start.initial_state(config, networks, constants), assets)
    return AbstractRun(networks, assets, state, _batch(config, batch_size), notes + more)


def _head_model(config: Config, sizes: network_summary.Sizes) -> MorphableModel:
    if config.morphable.startswith("embedded") or Path(config.morphable).exists():
        return network_summary.shapes_of(load_morphable(config.morphable))
    vertices, joints = FLAME_VERTICES, len(sizes.head.joint_names)
    faces = sizes.neighbourhood.index.shape[0]
    arrays = {
        "template": (vertices, 3),
        "identity_basis": (sizes.head.shapes, vertices, 3),
        "expression_basis": (len(sizes.head.expression_names), vertices, 3),
        "pose_basis": (FLAME_POSE, vertices, 3),
        "joint_regressor": (joints, vertices),
        "skinning_weights": (vertices, joints),
        "uv": (FLAME_UV, 2),
        "landmark_barycentrics": (68, 3),
        "contour_barycentrics": (CONTOUR_ROWS, 17, 3),
    }
    indices = {
        "faces": (faces, 3),
        "uv_faces": (faces, 3),
        "landmark_faces": (68,),
        "contour_faces": (CONTOUR_ROWS, 17),
    }
    shapes = {name: _floats(*shape) for name, shape in arrays.items()}
    shapes |= {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in indices.items()}
    return MorphableModel(
        **shapes,
        regions={},
        parents=(-1, 0, 1, 1, 1)[:joints],
        joint_names=sizes.head.joint_names,
        expression_names=sizes.head.expression_names,
        name=sizes.head.name,
        joints_follow_expression=True,
    )


def _dinov2(config: Config) -> tuple[Any, list[str]]:
    path = config.weights.dinov2
    if not path or Path(path).exists():
        return build.build_dinov2(config), []
    network = dinov2_network(network_summary.DINOV2_B, dtype=build.network_dtype(config))
    return network, [f"{path} is missing: taking the sizes of DINOv2 B/14"]


def _frozen_shapes(networks: Networks) -> dict[str, Any]:
    """Parameters of the frozen networks."""
    frozen: dict[str, Any] = {}
    if networks.dinov2 is not None:
        side = networks.dinov2.patch
        frozen["dinov2"] = network_summary.part("", networks.dinov2, _floats(1, side, side, 3)).params["params"]
    if networks.lpips is not None:
        image = _floats(1, 64, 64, 3)
        frozen["lpips"] = network_summary.part("", networks.lpips, image, image).params["params"]
    return frozen


def _batch(config: Config, size: int) -> Batch:
    side = config.image_size
    frame = Frame(_floats(size, side, side, 3), _floats(size, 68, 2), _floats(size, 68))
    record: Any = jax.ShapeDtypeStruct((size, 2), jnp.int32)
    return Batch(frame, frame, record)


def _floats(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
