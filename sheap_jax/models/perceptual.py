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
        pair = [(2.0 * image - 1.0 - jnp.array(SHIFT)) / jnp.array(SCALE) for image in (first, second)]
        distances = []
        for index, stage in enumerate(self.stages):
            if index:
                pair = [halve(maps) for maps in pair]
            for layer, width in enumerate(stage):
                convolution = nn.Conv(width, (3, 3), dtype=self.dtype, name=f"convolution_{index}_{layer}")
                # One after the other: the gradient of one image does not compute that of the other.
                pair = [relu(convolution(maps)) for maps in pair]
            weight = self.param(f"linear_{index}", nn.initializers.ones, (stage[-1],))
            distances.append(feature_distance(weight, *pair))
        return tuple(distances)


@jax.checkpoint  # the gradient recomputes the float32 maps: the features are kept in `dtype` anyway
def feature_distance(
    weight: Float[Array, "c"], first: Float[Array, "b h w c"], second: Float[Array, "b h w c"]
) -> Float[Array, "b h w"]:
    """Weighed squared differences of the pixels' unit feature vectors (Zhang et al., eq. 1), float32."""
    difference = unit_vectors(first.astype(jnp.float32)) - unit_vectors(second.astype(jnp.float32))
    return jnp.sum(weight * difference**2, axis=-1)


def unit_vectors(maps: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each pixel's features divided by their length; pixels without features stay zero, and so does their gradient."""
    square = jnp.sum(maps**2, axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return jnp.where(square > 0, maps / (length + NORM_FLOOR), 0.0)


def halve(maps: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """The largest of each 2 x 2 pixels; an odd last row or column is left out.

    As a maximum over axes, whose gradient is elementwise: that of a pooling window is a scatter on GPUs.
    """
    batch, height, width, channels = maps.shape
    even = maps[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.max(even.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


@jax.custom_jvp
def relu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """max(x, 0), with gradient 0 at 0. The gradient looks at the result, so that x need not be kept."""
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals, tangents):
    result = relu(*primals)
    return result, jnp.where(result > 0, tangents[0], 0)
