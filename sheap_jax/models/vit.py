"""One vision transformer (Dosovitskiy et al., ICLR 2021) for our estimator, FaRL's image network and DINOv2."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.models.patches import MergeStem, TokenSeed, split_patches
from sheap_jax.models.positions import resize_positions, sine_positions
from sheap_jax.models.transformer import PLAIN, Dtype, TransformerBlock, VitStyle


class VitTokens(NamedTuple):
    """Output of the transformer after the last layer norm, float32."""

    patches: Float[Array, "b t d"]  # row-major over the image
    extra: Float[Array, "b k d"]
    leading: Float[Array, "b l d"]  # class token and registers, in this order; none in the plain style


class Vit(nn.Module):
    """Transformer over class token and registers (if the style has them), square patches, `num_extra` learned tokens.

    `grid` is the number of patch rows and columns whose positions are parameters; other image sizes resize them.
    """

    patch: int
    width: int
    depth: int
    heads: int
    grid: int
    num_extra: int
    mlp_ratio: float = 4.0
    dtype: Dtype = jnp.float32  # of the matrix products; parameters and residual stream stay float32
    remat: bool = False  # recompute blocks in the backward pass to save memory
    from_scratch: bool = False  # MergeStem and TokenSeed instead of what pretrained weights fit
    style: VitStyle = PLAIN

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> VitTokens:
        """Tokens of normalised images whose sides are multiples of `patch`; ValueError otherwise."""
        tokens = self._embed(images)
        count = tokens.shape[1]
        leading = self._leading_tokens(images.shape[0])
        extra = self._extra_tokens(tokens)
        tokens = jnp.concatenate([leading, tokens, extra], axis=1)
        if self.style.norm_before:
            tokens = self._norm("norm_before", tokens)
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        for layer in range(self.depth):
            tokens = block(self.heads, self.mlp_ratio, self.dtype, self.style, name=f"block_{layer}")(tokens)
        tokens = self._norm("norm", tokens)
        first = leading.shape[1]
        return VitTokens(tokens[:, first : first + count], tokens[:, first + count :], tokens[:, :first])

    def _norm(self, name: str, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        rows = tokens.reshape(-1, self.width)  # one axis to sum over in the gradient, as in TransformerBlock
        return nn.LayerNorm(epsilon=self.style.epsilon, name=name)(rows).reshape(tokens.shape)

    def _embed(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b t d"]:
        """Patch tokens with their positions."""
        _, height, width, _ = images.shape
        if height % self.patch or width % self.patch:
            raise ValueError(f"image of {height} x {width} pixels does not divide into patches of {self.patch}")
        if self.from_scratch:
            tokens = MergeStem(self.patch, self.width, self.dtype, name="stem")(images)
        else:
            dense = nn.Dense(self.width, use_bias=self.style.patch_bias, dtype=self.dtype, name="patch_embedding")
            tokens = dense(split_patches(images, self.patch))
        positions = self.param("positions", sine_positions, (self.grid, self.grid, self.width))
        rows, columns = height // self.patch, width // self.patch
        return tokens.astype(jnp.float32) + resize_positions(positions, rows, columns, method=self.style.positions)

    def _leading_tokens(self, batch: int) -> Float[Array, "b l d"]:
        """Class token with its position, and registers."""
        rows = []
        if self.style.class_token:
            initial = nn.initializers.normal(0.02)
            token = self.param("class_token", initial, (self.width,))
            rows.append((token + self.param("class_position", initial, (self.width,)))[None])
        if self.style.registers:
            shape = (self.style.registers, self.width)
            rows.append(self.param("registers", nn.initializers.normal(0.02), shape))
        leading = jnp.concatenate(rows) if rows else jnp.zeros((0, self.width))
        return jnp.broadcast_to(leading, (batch, *leading.shape))

    def _extra_tokens(self, patches: Float[Array, "b t d"]) -> Float[Array, "b k d"]:
        initial = nn.initializers.normal(self.style.extra_deviation)
        if not self.num_extra:
            return jnp.zeros((patches.shape[0], 0, self.width))
        extra = self.param("extra_tokens", initial, (self.num_extra, self.width))
        extra = jnp.broadcast_to(extra, (patches.shape[0], *extra.shape))
        if self.from_scratch:
            extra = extra + TokenSeed(self.num_extra, self.width, self.dtype, name="token_seed")(patches)
        return extra


def normalize_images(images: Float[Array, "*b h w 3"], style: VitStyle) -> Float[Array, "*b h w 3"]:
    """RGB in [0, 1] as the networks of a style expect it."""
    return (images - jnp.array(style.mean, images.dtype)) / jnp.array(style.deviation, images.dtype)
