"""The official release behind the interface of our own runs: it predicts heads, it renders nothing."""

from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax.config import Config
from sheap_jax.inference.predictor import Predictor, check_images, in_buckets
from sheap_jax.models import official
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.types import HeadParams


class OfficialPredictor(Predictor):
    """Head parameters by the official release; needs no torch. What needs a Gaussian regressor is refused."""

    def __init__(self, directory: Path, release: official.Release, model: MorphableModel) -> None:
        self.config = Config(directory.name, image_size=official.IMAGE_SIZE, morphable=release.morphable)
        self.model, self.framing, self._directory = model, release.framing, directory
        self._weights = {name: jnp.asarray(array) for name, array in release.weights.items()}
        self._heads = jax.jit(
            lambda weights, model, images: official.estimate_heads(release.program, weights, model, images)
        )

    @classmethod
    def from_directory(cls, directory: Path) -> "OfficialPredictor":
        """What the converter wrote. Raises FileNotFoundError or ValueError for missing or damaged files."""
        release = official.load_release(directory)
        model = load_morphable(release.morphable)
        official.check_model(model, path=release.morphable)
        return cls(directory, release, model)

    def __call__(self, images: Float[Array | np.ndarray, "n h w 3"]) -> HeadParams:
        """Head parameters of each image as NumPy arrays: radians and metres, in the frame of the official camera."""
        check_images(images, size=self.config.image_size)
        return in_buckets(lambda images: self._heads(self._weights, self.model, images), np.asarray(images))

    def check_renders(self) -> NoReturn:
        """Raises ValueError: the release has no Gaussian regressor."""
        raise ValueError(
            f"{self._directory} holds the official release, which predicts heads and has no Gaussian regressor: for "
            "pictures, avatars, export and the benchmarks embedded and clips train a run with `sheap train`"
        )

    def reanimate(self, source: Any, target: Any) -> NoReturn:
        """Raises what `check_renders` does."""
        self.check_renders()

    def __getattr__(self, name: str) -> Any:
        """The parts of a run that the release lacks are refused by one line wherever they are asked for."""
        if name in ("assets", "networks", "state"):
            self.check_renders()
        raise AttributeError(name)
