"""What the emotion network sees: the frozen estimator's expression and jaw, and its shape if asked for."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.cropping import Framing, crop_box, crop_image, picture_size
from sheap_jax.data.photographs import read_photograph
from sheap_jax.evaluation.affectnet.layout import Images
from sheap_jax.evaluation.predictions import NetworkUnderTest
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import HeadParams

BATCH_SIZE = 64


def extract_features(
    predictor: NetworkUnderTest,
    images: Images,
    *,
    image_size: int,
    with_shape: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Float[np.ndarray, "n d"]:
    """Features of every image, cropped by its landmarks as the network was trained.

    Raises FileNotFoundError or ValueError that names an image that is missing or has no usable landmarks.
    """
    parts = []
    for start in progress(range(0, len(images.paths), BATCH_SIZE)):
        places = range(start, min(start + BATCH_SIZE, len(images.paths)))
        crops = np.stack([_load_crop(images, place, image_size, predictor.framing) for place in places])
        params = predictor(jnp.asarray(crops, jnp.float32) / 255.0)
        parts.append(expression_features(predictor.model, params, with_shape=with_shape))
    return np.concatenate(parts)


def expression_features(
    model: MorphableModel, params: HeadParams, *, with_shape: bool = False
) -> Float[np.ndarray, "n d"]:
    """Expression coefficients and the jaw's rotation vector (where the model has a jaw), then the shape."""
    parts = [np.asarray(params.expression)]
    if "jaw" in model.joint_names:
        parts.append(np.asarray(params.rotations)[:, model.joint_names.index("jaw")])
    if with_shape:
        parts.append(np.asarray(params.shape))
    return np.concatenate(parts, axis=1)


def _load_crop(images: Images, place: int, size: int, framing: Framing) -> UInt8[np.ndarray, "size size 3"]:
    try:
        image = read_photograph(images.paths[place])
        return crop_image(image, crop_box(images.landmarks[place], picture=picture_size(image, framing)), size)
    except ValueError as error:
        raise ValueError(f"{images.paths[place]}: {error}") from error
