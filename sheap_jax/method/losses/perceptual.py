"""LPIPS per pixel from the maps of `models.perceptual.Lpips`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def perceptual_error(layers: tuple[Float[Array, "b _ _"], ...]) -> Float[Array, "b h w"]:
    """Sum of the layers' maps, each interpolated linearly to the size of the first, which is the image's.

    The spatial form of LPIPS (Zhang et al., CVPR 2018, eq. 1 before its mean over pixels): the same masks weigh it as
    the other photometric terms.
    """
    first, *coarser = layers
    return first + sum((jax.image.resize(layer, first.shape, "linear") for layer in coarser), jnp.zeros_like(first))
