"""A predictor whose answers can be read off the pictures, and clips to give it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sheap_jax.config import Config
from sheap_jax.cropping import Framing
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import HeadParams
from tests.data.tiny_videos import face_points
from tests.training.conftest import ellipsoid

SIZE = 32  # pixels of the crops


class FakePredictor:
    """The mean head; its shape is the colour in the middle of the crop."""

    config = Config("fake", image_size=SIZE)
    framing: Framing = "pixels"
    model = ellipsoid()

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> HeadParams:
        self.batches.append(len(images))
        middle = images[:, SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2].mean(axis=(1, 2))
        return jax.tree.map(np.asarray, mean_params(self.model, len(images))._replace(shape=jnp.asarray(middle)))


def write_face(path: Path, color: tuple[int, int, int], *, scale: float = 1.0, mode: str = "RGB", **options) -> None:
    """A picture of 160 x 120 pixels (times `scale`) with a disc of one colour where `face_points` has its crop."""
    y, x = np.mgrid[:120, :160]
    disc = (np.hypot(x - 70, y - 57) < 25)[..., None]
    image = Image.fromarray(np.where(disc, np.array(color, np.uint8), np.uint8(90)))
    image = image.resize((round(160 * scale), round(120 * scale)), Image.Resampling.NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, **options)


def write_photograph_landmarks(path: Path, files: dict[str, np.ndarray]) -> None:
    """An archive with one row per photograph, and one of nothing: a set with a single file would be a video."""
    names = [*files, "nobody.jpg"]
    points = np.stack([*files.values(), np.full((68, 2), np.nan)])
    np.savez(path, sets=["photographs"], photographs_files=names, photographs_lmk68=points)


def scaled_points(scale: float = 1.0) -> np.ndarray:
    return face_points() * scale
