"""LPIPS (Zhang et al., CVPR 2018): distances of VGG16 features, weighed by linear layers learned from human judgements.

The network is frozen: its parameters are data of a run, never trained.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.models.transformer import Dtype

VggStages = tuple[tuple[int, ...], ...]  # channels of the convolutions of each stage; poolings between
VGG16_STAGES: VggStages = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
NORM_FLOOR = 1e-10  # added to the length of a pixel's feature vector


class Lpips(nn.Module):
    """The weighed squared feature differences of two images, one map per stage."""

    stages: VggStages = VGG16_STAGES
    dtype: Dtype = jnp.float32  # of the convolutions

    @nn.compact
    def __call__(
        self, first: Float[Array, "b h w 3"], second: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b _ _"], ...]:
        """Maps at 1, 1/2, 1/4 ... of the size of RGB images in [0, 1]; float32.

        Their means, summed, are LPIPS. ValueError for images that poolings reduce to nothing.
        """
        smallest = 2 ** (len(self.stages) - 1)
        if min(first.shape[1:3]) < smallest:
            raise ValueError(f"LPIPS needs images of at least {smallest} pixels a side, not {first.shape[1:3]}")
        images = jnp.concatenate([first, second])
        maps = (2.0 * images - 1.0 - jnp.array(SHIFT)) / jnp.array(SCALE)
        distances = []
        for index, stage in enumerate(self.stages):
            if index:
                maps = nn.max_pool(maps, (2, 2), (2, 2))
            for layer, width in enumerate(stage):
                convolution = nn.Conv(width, (3, 3), dtype=self.dtype, name=f"convolution_{index}_{layer}")
                maps = jax.nn.relu(convolution(maps))
            weight = self.param(f"linear_{index}", nn.initializers.ones, (stage[-1],))
            one, other = jnp.split(unit_vectors(maps.astype(jnp.float32)), 2)
            distances.append(jnp.sum(weight * (one - other) ** 2, axis=-1))
        return tuple(distances)


def unit_vectors(maps: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each pixel's features divided by their length; pixels without features stay zero, and so does their gradient."""
    square = jnp.sum(maps**2, axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return jnp.where(square > 0, maps / (length + NORM_FLOOR), 0.0)
