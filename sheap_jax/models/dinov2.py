"""DINOv2 (Oquab et al., TMLR 2024) as a frozen feature network: what the UV generator looks at in the source image."""

from typing import Any

import jax
from jaxtyping import Array, Float

from sheap_jax.models.transformer import STYLES, Dtype
from sheap_jax.models.vit import Vit, normalize_images
from sheap_jax.models.weights import Params


def dinov2_network(architecture: dict[str, Any], *, dtype: Dtype) -> Vit:
    """The module of converted weights' `architecture`."""
    sizes = {name: size for name, size in architecture.items() if name != "style"}
    return Vit(**sizes, num_extra=0, style=STYLES[architecture["style"]], dtype=dtype)


def patch_features(network: Vit, params: Params, images: Float[Array, "b h w 3"]) -> Float[Array, "b t d"]:
    """Patch tokens of RGB images in [0, 1] after the last layer norm, row-major; no gradient passes.

    Images whose sides are no multiples of the patch are first resized to the nearest ones.
    """
    batch, height, width, channels = images.shape
    rows, columns = (max(round(side / network.patch), 1) * network.patch for side in (height, width))
    if (rows, columns) != (height, width):
        images = jax.image.resize(images, (batch, rows, columns, channels), "linear")
    tokens: Any = network.apply({"params": params}, normalize_images(images, network.style))
    return jax.lax.stop_gradient(tokens.patches)
