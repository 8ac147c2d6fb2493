"""A trained model as functions of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax import assembly, config_files
from sheap_jax.config import Config
from sheap_jax.cropping import Framing
from sheap_jax.inference.batches import check_images, in_buckets
from sheap_jax.method import reanimation
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.models import official
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import pretrained
from sheap_jax.training.checkpoint import CheckpointError, read_checkpoint
from sheap_jax.training.start import initial_state
from sheap_jax.training.state import Learned, TrainState
from sheap_jax.types import HeadParams


class RunParts(NamedTuple):
    """What a run has and the official release has not: all that rendering needs."""

    assets: Assets
    networks: Networks
    learned: Learned


class Predictor:
    """Head parameters and re-animations of a trained model.

    Images are float32 [n, h, w, 3] in [0, 1], any n, crops as in training and of the training's size. Calls from
    several threads are safe.
    """

    def __init__(
        self,
        config: Config,
        model: MorphableModel,
        estimate: Callable[[Any, Float[Array, "n h w 3"]], HeadParams],
        weights: Any,
        *,
        parts: RunParts | None = None,
        framing: Framing = "pixels",
    ) -> None:
        """`estimate(weights, images)` is compiled; without `parts` nothing is rendered; `framing` is of the crops."""
        self.config, self.model = config, model
        self.framing: Framing = framing
        self._weights, self._parts = weights, parts
        self._estimate = jax.jit(estimate)
        self._render = jax.jit(self._render_driven)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, *, step: int | None = None) -> "Predictor":
        """The newest checkpoint of a run or that of `step`; or a pretrained model; or the official release.

        Args:
          directory: of any of these, or "pretrained" for the model that comes with this package.

        Raises:
          CheckpointError, ConfigError: there is no run, no such checkpoint, or a file that it names is not usable.
          FileNotFoundError, ValueError: the weights or their head model are missing or damaged.
        """
        directory = pretrained.find(directory)
        if official.is_release(directory):
            if step is not None:
                raise CheckpointError(f"{directory} holds the official release, which has no step {step}")
            return cls.from_release(directory)
        if not (directory / "config.json").exists():
            raise CheckpointError(f"{directory} is no run directory: it has no config.json; `sheap train` makes them")
        config = config_files.load_json(directory / "config.json")
        if pretrained.is_pretrained(directory) and step is not None:
            raise CheckpointError(f"{directory} holds a pretrained model, which has no step {step}")
        model = load_morphable(config.morphable)
        assets = assembly.build_assets(config, model, training=False)
        networks = assembly.build_networks(config, model)
        like = jax.eval_shape(lambda: initial_state(config, networks, assets))
        if pretrained.is_pretrained(directory):
            learned = pretrained.load_learned(directory, like.learned)
        else:
            learned = _restore(directory, like, step).learned
        return cls.from_parts(config, model, RunParts(assets, networks, learned))

    @classmethod
    def from_parts(cls, config: Config, model: MorphableModel, parts: RunParts) -> "Predictor":
        """A run's estimator, and its Gaussian regressor to render with."""

        def estimate(params: Any, images: Float[Array, "n h w 3"]) -> HeadParams:
            output: Any = parts.networks.estimator.apply({"params": params}, images)
            return output.estimate.head

        return cls(config, model, estimate, parts.learned.params["estimator"], parts=parts)

    @classmethod
    def from_release(cls, directory: Path) -> "Predictor":
        """The official release as `sheap convert official` wrote it; needs no torch.

        Raises FileNotFoundError or ValueError for missing or damaged files.
        """
        release = official.load_release(directory)
        model = load_morphable(release.morphable)
        official.check_model(model, path=release.morphable)

        def estimate(weights: Any, images: Float[Array, "n h w 3"]) -> HeadParams:
            arrays, flame = weights
            return official.estimate_heads(release.program, arrays, flame, images)

        weights = ({name: jnp.asarray(array) for name, array in release.weights.items()}, model)
        config = Config(str(directory), image_size=official.IMAGE_SIZE, morphable=release.morphable)
        return cls(config, model, estimate, weights, framing=release.framing)

    def __call__(self, images: Float[Array | np.ndarray, "n h w 3"]) -> HeadParams:
        """Head parameters of each image as NumPy arrays: radians and metres, in the frame of the official camera.

        Raises ValueError for images of another kind than the class says.
        """
        check_images(images, size=self.config.image_size)
        return in_buckets(lambda images: self._estimate(self._weights, images), np.asarray(images))

    def parts(self) -> RunParts:
        """What a run renders with. Raises ValueError for the official release."""
        if self._parts is None:
            raise ValueError(
                f"{self.config.name} holds the official release, which predicts heads and has no Gaussian regressor: "
                "for pictures, avatars, export and the benchmarks embedded and clips train a run with `sheap train`"
            )
        return self._parts

    def reanimate(
        self, source: Float[Array | np.ndarray, "n h w 3"], target: Float[Array | np.ndarray, "n h w 3"]
    ) -> Float[np.ndarray, "n h w 3"]:
        """The person of each source image with the target's pose and expression, rendered in [0, 1].

        Raises ValueError for images of another kind than the class says, and for the official release.
        """
        assets, _, learned = self.parts()
        for images in (source, target):
            check_images(images, size=self.config.image_size)
        pairs = np.asarray(source), np.asarray(target)
        return in_buckets(lambda pair: self._render(learned, assets, *pair), pairs)

    # Weights and assets are arguments of what is compiled: as constants they would be copied into every program.

    def _render_driven(self, learned: Learned, assets: Assets, source, target):
        networks = self.parts().networks
        pair = reanimation.estimate_pair(networks, learned.params, assets, source, target)
        avatar = reanimation.build_avatar(networks, learned.params, assets, learned.prototypes, pair)
        settings = assembly.render_settings(self.config)
        background = reanimation.border_color(target)
        rendering = reanimation.render(assets, avatar, pair.target.vertices, background, **settings._asdict())
        return jnp.clip(rendering.surfels.color, 0.0, 1.0)


def _restore(directory: Path, like: TrainState, step: int | None) -> TrainState:
    """A checkpoint of a run; `like` has its shapes."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    state = read_checkpoint(directory, like, step=step)
    if state is None:
        raise CheckpointError(f"{directory} holds no finished checkpoint yet")
    return state
