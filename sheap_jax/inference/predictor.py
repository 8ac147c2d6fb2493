"""A trained model as functions of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax import assembly, config_files
from sheap_jax.config import Config
from sheap_jax.cropping import Framing
from sheap_jax.method import reanimation
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.models import official
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training.checkpoint import CheckpointError, read_checkpoint
from sheap_jax.training.start import initial_state
from sheap_jax.training.state import TrainState
from sheap_jax.types import HeadParams

ROUNDING = 0.1  # how far images may leave [0, 1]: resizing overshoots
BUCKETS = (1, 4, 16)  # batch sizes that are compiled, each on its first use; other sizes are padded to one of them


class Predictor:
    """Head parameters and re-animations of a trained model.

    Images are float32 [n, h, w, 3] in [0, 1], any n, crops as in training and of the training's size. Calls from
    several threads are safe.
    """

    framing: Framing = "pixels"  # of the crops

    def __init__(
        self, config: Config, model: MorphableModel, assets: Assets, networks: Networks, state: TrainState
    ) -> None:
        self.config, self.model, self.assets, self.networks, self.state = config, model, assets, networks, state
        self._estimate = jax.jit(self._estimate_head)
        self._render = jax.jit(self._render_driven)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, *, step: int | None = None) -> "Predictor":
        """The newest checkpoint of a run or that of `step`, or the official release if the directory holds it.

        Raises:
          CheckpointError, ConfigError: there is no run, no such checkpoint, or a file that it names is not usable.
          FileNotFoundError, ValueError: the release or its FLAME is missing or damaged.
        """
        directory = Path(directory)
        if official.is_release(directory):
            from sheap_jax.inference.official import OfficialPredictor  # a kind of Predictor: it imports this module

            if step is not None:
                raise CheckpointError(f"{directory} holds the official release, which has no step {step}")
            return OfficialPredictor.from_directory(directory)
        if not (directory / "config.json").exists():
            raise CheckpointError(f"{directory} is no run directory: it has no config.json; `sheap train` makes them")
        config = config_files.load_json(directory / "config.json")
        model = load_morphable(config.morphable)
        assets = assembly.build_assets(config, model, training=False)
        networks = assembly.build_networks(config, model)
        return cls(config, model, assets, networks, _restore(directory, config, networks, assets, step))

    def __call__(self, images: Float[Array | np.ndarray, "n h w 3"]) -> HeadParams:
        """Head parameters of each image as NumPy arrays: radians and metres, in the frame of the official camera.

        Raises ValueError for images of another kind than the class says.
        """
        check_images(images, size=self.config.image_size)
        return in_buckets(lambda images: self._estimate(self.state.params["estimator"], images), np.asarray(images))

    def check_renders(self) -> None:
        """Raises ValueError if this predictor renders nothing, as the official release does. A run renders."""

    def reanimate(
        self, source: Float[Array | np.ndarray, "n h w 3"], target: Float[Array | np.ndarray, "n h w 3"]
    ) -> Float[np.ndarray, "n h w 3"]:
        """The person of each source image with the target's pose and expression, rendered in [0, 1].

        Raises ValueError for images of another kind than the class says.
        """
        for images in (source, target):
            check_images(images, size=self.config.image_size)
        pairs = np.asarray(source), np.asarray(target)
        return in_buckets(lambda pair: self._render(self.state, self.assets, *pair), pairs)

    # Weights and assets are arguments of what is compiled: as constants they would be copied into every program.

    def _estimate_head(self, params, images) -> HeadParams:
        output: Any = self.networks.estimator.apply({"params": params}, images)
        return output.estimate.head

    def _render_driven(self, state: TrainState, assets: Assets, source, target):
        pair = reanimation.estimate_pair(self.networks, state.params, assets, source, target)
        avatar = reanimation.build_avatar(self.networks, state.params, assets, state.prototypes, pair)
        settings = assembly.render_settings(self.config)
        background = reanimation.border_color(target)
        rendering = reanimation.render(assets, avatar, pair.target.vertices, background, **settings._asdict())
        return jnp.clip(rendering.surfels.color, 0.0, 1.0)


def check_images(images: Array | np.ndarray, *, size: int) -> None:
    """Raises ValueError that says what came unless `images` are floating-point [n, size, size, 3] in [0, 1]."""
    shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
    found = f"{dtype} {list(shape)}"
    if shape[1:] == (size, size, 3) and len(shape) == 4 and jnp.issubdtype(dtype, jnp.floating):
        low, high = (float(bound(images)) if images.size else 0.5 for bound in (np.min, np.max))
        if low >= -ROUNDING and high <= 1 + ROUNDING:
            return
        found += f" from {low:.3g} to {high:.3g}"
    raise ValueError(
        f"images are {found}, they must be floating-point [n, {size}, {size}, 3] in [0, 1]: divide bytes by 255, crop "
        "and resize as `sheap predict` does"
    )


def in_buckets(function: Callable[[Any], Any], rows: Any) -> Any:
    """Apply `function` to a pytree of arrays [n, ...] in slices of few sizes, so that little is compiled.

    Slices of the largest of BUCKETS, then the smallest that holds the rest, padded with copies of the last row. Returns
    what `function` returns, joined along the first axis, as NumPy arrays.

    Raises ValueError without any row.
    """
    count = len(jax.tree.leaves(rows)[0])
    if not count:
        raise ValueError("there is no image to predict from")
    parts = []
    for start in range(0, count, BUCKETS[-1]):
        size = next(size for size in BUCKETS if size >= min(count - start, BUCKETS[-1]))
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(jax.tree.map(np.asarray, function(jax.tree.map(lambda x, chosen=chosen: x[chosen], rows))))
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def _restore(directory: Path, config: Config, networks: Networks, assets: Assets, step: int | None) -> TrainState:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.eval_shape(lambda: initial_state(config, networks, assets))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    state = read_checkpoint(directory, like, step=step)
    if state is None:
        raise CheckpointError(f"{directory} holds no finished checkpoint yet")
    return state
