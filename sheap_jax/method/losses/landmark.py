"""Landmark loss: where the mesh's 68 landmarks fall in the picture against where a detector saw them.

The paper gives this term a very small weight: it only has to bring the head to the right place, the pictures do the
rest. Detectors mark the jaw's visible contour, which is not a fixed point of the face, so that the contour counts less.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.morphable.model import CONTOUR_LANDMARKS

MOUTH_START = 48  # the first of iBUG's mouth, whose points are the last


def landmark_error(
    projected: Float[Array, "*b 68 2"], detected: Float[Array, "*b 68 2"], *, image_size: float
) -> Float[Array, "*b 68"]:
    """L1 distance (|dx| + |dy|) per landmark as a fraction of the image's side.

    Args:
        projected: landmarks of the model, pixels.
        detected: landmarks of the detector, pixels of the same image. Undetected ones may hold anything, also NaN.
        image_size: side of the image in pixels.
    """
    return jnp.sum(jnp.abs(projected - detected), axis=-1) / image_size


def landmark_weights(
    detected_weight: Float[Array, "*b 68"], *, contour: float = 1.0, mouth: float = 1.0
) -> Float[Array, "*b 68"]:
    """Weights of the landmarks: the detector's own, times `contour` for the jaw line (iBUG 0-16), `mouth` for 48-67.

    A group of weight 0 is left to the pictures; the other groups then share the whole term.
    """
    number = jnp.arange(detected_weight.shape[-1])
    group = jnp.where(number < CONTOUR_LANDMARKS, contour, jnp.where(number < MOUTH_START, 1.0, mouth))
    return detected_weight * group.astype(detected_weight.dtype)
