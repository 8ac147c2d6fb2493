"""A pre-LN vision transformer (Dosovitskiy et al., ICLR 2021) with extra learnable tokens after the patches."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Dtype = jnp.dtype | type


class VitTokens(NamedTuple):
    """Output of the transformer after the last layer norm, float32."""

    patches: Float[Array, "b t d"]  # row-major over the image
    extra: Float[Array, "b k d"]


class Vit(nn.Module):
    """Transformer over square patches and `num_extra` learnable tokens.

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

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> VitTokens:
        """Tokens of images whose sides are multiples of `patch`; ValueError otherwise."""
        batch, height, width, _ = images.shape
        if height % self.patch or width % self.patch:
            raise ValueError(f"image of {height} x {width} pixels does not divide into patches of {self.patch}")
        rows, columns = height // self.patch, width // self.patch
        if self.from_scratch:
            tokens = MergeStem(self.patch, self.width, self.dtype, name="stem")(images)
        else:
            tokens = nn.Dense(self.width, dtype=self.dtype, name="patch_embedding")(split_patches(images, self.patch))
        positions = self.param("positions", sine_positions, (self.grid, self.grid, self.width))
        tokens = tokens.astype(jnp.float32) + resize_positions(positions, rows, columns)
        extra = self.param("extra_tokens", nn.initializers.normal(0.5), (self.num_extra, self.width))
        extra = jnp.broadcast_to(extra, (batch, *extra.shape))
        if self.from_scratch:
            extra = extra + TokenSeed(self.num_extra, self.width, self.dtype, name="token_seed")(tokens)
        tokens = jnp.concatenate([tokens, extra], axis=1)
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        for layer in range(self.depth):
            tokens = block(self.heads, self.mlp_ratio, self.dtype, name=f"block_{layer}")(tokens)
        tokens = nn.LayerNorm(name="norm")(tokens)
        return VitTokens(patches=tokens[:, : rows * columns], extra=tokens[:, rows * columns :])


class MergeStem(nn.Module):
    """Patch embedding in stages: patches of 4 pixels, then of 2 x 2 neighbours until the patch size is reached.

    Learns faster than one linear layer on raw patches (Xiao et al., "Early convolutions help transformers see better",
    NeurIPS 2021), and is made of dense layers alone: on CPUs two and a half times as fast as strided convolutions that
    learn as much per step.
    """

    patch: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b t d"]:
        """Tokens in row-major order; ValueError if `patch` is no power of two from 4 on."""
        stages = self.patch.bit_length() - 2
        if stages < 1 or self.patch != 2 ** (stages + 1):
            raise ValueError(f"a stem in stages needs a patch size of 4, 8, 16, ..., not {self.patch}")
        maps = images
        for stage in range(stages):
            side = 4 if stage == 0 else 2
            batch, height, width, _ = maps.shape
            merged = split_patches(maps, side)
            merged = merged.reshape(-1, merged.shape[-1])
            channels = self.width * (stage + 1) // stages
            hidden = nn.Dense(channels, dtype=self.dtype, name=f"merge_{stage}")(merged)
            hidden = gelu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{stage}")(hidden))
            maps = hidden.reshape(batch, height // side, width // side, channels)
        tokens = nn.Dense(self.width, dtype=self.dtype, name="out")(maps)
        return tokens.reshape(tokens.shape[0], -1, self.width)


class TokenSeed(nn.Module):
    """Starts the extra tokens from a linear view of the whole patch grid instead of from constants.

    Attention that has yet to be learned averages over the patches and loses where things are: without this, a
    transformer trained from nothing predicts the mean pose for hundreds of steps. Binds the network to one grid size.
    """

    num_extra: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, patches: Float[Array, "b t d"]) -> Float[Array, "b k d"]:
        narrow = nn.Dense(16, dtype=self.dtype, name="narrow")(patches)
        seeds = nn.Dense(self.num_extra * self.width, dtype=self.dtype, name="seeds")(narrow.reshape(len(narrow), -1))
        return seeds.reshape(-1, self.num_extra, self.width).astype(jnp.float32)


class TransformerBlock(nn.Module):
    """Self-attention and MLP, each behind a layer norm and added to the residual stream."""

    heads: int
    mlp_ratio: float
    dtype: Dtype

    @nn.compact
    def __call__(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        width = tokens.shape[-1]
        normed = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(tokens)
        tokens = tokens + Attention(self.heads, self.dtype, name="attention")(normed, normed)
        hidden = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(tokens)
        hidden = nn.Dense(int(self.mlp_ratio * width), dtype=self.dtype, name="mlp_in")(hidden)
        return tokens + nn.Dense(width, dtype=self.dtype, name="mlp_out")(gelu(hidden))


class Attention(nn.Module):
    """Multi-head attention of `queries` to `context`; self-attention when both are the same array.

    Heads stand before tokens ("BHTD"): on CPUs the batched products then need no transposes inside.
    """

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, queries: Float[Array, "b t d"], context: Float[Array, "b s e"]) -> Float[Array, "b t d"]:
        batch, length, width = queries.shape
        if width % self.heads:
            raise ValueError(f"width {width} does not divide into {self.heads} heads")

        def heads_of(array: Float[Array, "b t d"], name: str) -> Float[Array, "b h t k"]:
            projected = nn.Dense(width, dtype=self.dtype, name=name)(array)
            return projected.reshape(batch, -1, self.heads, width // self.heads).transpose(0, 2, 1, 3)

        query, key, value = heads_of(queries, "query"), heads_of(context, "key"), heads_of(context, "value")
        logits = jnp.einsum("bhtk,bhsk->bhts", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits * (width // self.heads) ** -0.5, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bhts,bhsk->bhtk", weights, value)
        return nn.Dense(width, dtype=self.dtype, name="out")(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width))


def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Exact GELU through erf, which XLA compiles to faster CPU code than the erfc of jax.nn.gelu."""
    return 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


def split_patches(images: Float[Array, "b h w c"], patch: int) -> Float[Array, "b t p"]:
    """Patches in row-major order, each flattened to patch * patch * c numbers (row, column, channel)."""
    batch, height, width, channels = images.shape
    blocks = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def resize_positions(positions: Float[Array, "r c d"], rows: int, columns: int) -> Float[Array, "t d"]:
    """Position embeddings for a grid of another size, by bicubic interpolation."""
    if positions.shape[:2] != (rows, columns):
        positions = jax.image.resize(positions, (rows, columns, positions.shape[-1]), "bicubic", antialias=False)
    return positions.reshape(rows * columns, -1)


def sine_positions(key: Array, shape: tuple[int, int, int]) -> Float[Array, "r c d"]:
    """Initial positions: sines and cosines of the row in one half of the channels, of the column in the other.

    Learned from there on. A small transformer trained from nothing then need not first learn where its patches are.
    """
    del key
    rows, columns, width = shape
    rates = 1.0 / 10000.0 ** (np.arange(width // 4) / (width // 4))
    encoded = np.zeros(shape, np.float32)
    for half, angle in enumerate((np.arange(rows)[:, None, None] * rates, np.arange(columns)[None, :, None] * rates)):
        start = half * 2 * len(rates)
        encoded[..., start : start + len(rates)] = np.sin(angle)
        encoded[..., start + len(rates) : start + 2 * len(rates)] = np.cos(angle)
    return jnp.asarray(encoded)
