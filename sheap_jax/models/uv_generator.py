"""From identity features to a map of features in UV space.

A small generator in the manner of the "lightweight GAN" (Liu et al., ICLR 2021): the feature vector becomes a 4 x 4
map, blocks double it up to the wanted size, low maps look at the image's patch tokens through cross-attention, and
coarse maps gate the channels of fine ones (skip-layer excitation).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sheap_jax.models.transformer import Attention, Dtype, gelu

START = 4  # side of the first map
HEADS = 4  # of the cross-attention
EXCITATION_STEP = 8  # a map gates the one that is this many times larger


class UvGenerator(nn.Module):
    """Generator of UV maps of side `size` (a power of two times 4) with `channels` channels."""

    size: int
    channels: int
    widest: int = 128  # channels of the coarsest maps; each doubling below halves them down to `channels`
    attention_size: int = 8  # maps up to this side attend to the context
    heads: int = HEADS
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b d"], context: Float[Array, "b t e"]) -> Float[Array, "b u u c"]:
        """UV map of `features`, conditioned on the tokens `context`. ValueError for a size that is not 4 * 2^k."""
        widths = map_widths(self.size, self.channels, self.widest)
        context = nn.LayerNorm(dtype=self.dtype, name="context_norm")(context)
        seed = nn.Dense(START * START * widths[START], dtype=self.dtype, name="seed")(features)
        maps = {START: seed.reshape(-1, START, START, widths[START])}
        for side, width in widths.items():
            current = maps[START] if side == START else self._grow(maps[side // 2], width)
            if side <= self.attention_size:
                current = CrossAttention(self.heads, self.dtype, name=f"attention_{side}")(current, context)
            if side // EXCITATION_STEP in maps:
                current = current * Excitation(width, self.dtype, name=f"excitation_{side}")(
                    maps[side // EXCITATION_STEP]
                )
            maps[side] = current
        return nn.Dense(self.channels, dtype=self.dtype, name="out")(maps[self.size]).astype(jnp.float32)

    def _grow(self, coarse: Float[Array, "b s s c"], width: int) -> Float[Array, "b r r w"]:
        """Nearest upsampling by two, 3 x 3 convolution, norm over the channels, GELU."""
        side = 2 * coarse.shape[1]
        fine = jnp.repeat(jnp.repeat(coarse, 2, axis=1), 2, axis=2)
        fine = nn.Conv(width, (3, 3), dtype=self.dtype, name=f"convolution_{side}")(fine)
        return gelu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{side}")(fine))


class CrossAttention(nn.Module):
    """Pixels of a map attend to context tokens; residual."""

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, current: Float[Array, "b s s c"], context: Float[Array, "b t e"]) -> Float[Array, "b s s c"]:
        batch, side, _, width = current.shape
        queries = current.reshape(batch, side * side, width)
        normed = nn.LayerNorm(dtype=self.dtype, name="norm")(queries)
        queries = queries + Attention(self.heads, self.dtype, name="attention")(normed, context)
        return queries.reshape(current.shape)


class Excitation(nn.Module):
    """Channel gates in (0, 2) computed from a coarser map; one at the start on average."""

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, coarse: Float[Array, "b s s c"]) -> Float[Array, "b 1 1 w"]:
        pooled = jnp.mean(coarse, axis=(1, 2), keepdims=True)
        hidden = gelu(nn.Dense(self.width, dtype=self.dtype, name="hidden")(pooled))
        return 2 * jax.nn.sigmoid(nn.Dense(self.width, dtype=self.dtype, name="gate")(hidden))


def map_widths(size: int, channels: int, widest: int) -> dict[int, int]:
    """Channels of a generator's maps, by their side. ValueError for a size that is not 4 * 2^k."""
    sides = [START]
    while sides[-1] < size:
        sides.append(2 * sides[-1])
    if sides[-1] != size:
        raise ValueError(f"the size of a UV map must be {START} times a power of two, not {size}")
    return {side: min(widest, channels * size // side) for side in sides}


def sample_uv(uv_map: Float[Array, "b u u c"], uv: Float[Array, "n 2"]) -> Float[Array, "b n c"]:
    """Bilinear samples of maps at points uv in [0, 1]^2; columns run with u, rows with v, borders are repeated.

    The centre of the first texel lies at 0.5 / side, as pixel centres do in images.
    """
    batch, rows, columns, channels = uv_map.shape
    x = jnp.clip(uv[:, 0] * columns - 0.5, 0, columns - 1)
    y = jnp.clip(uv[:, 1] * rows - 0.5, 0, rows - 1)
    left = jnp.clip(jnp.floor(x), 0, columns - 2).astype(jnp.int32)
    low = jnp.clip(jnp.floor(y), 0, rows - 2).astype(jnp.int32)
    right_share, high_share = x - left, y - low
    # One row per texel holds the whole batch: four gathers of long rows instead of one per image.
    texels = jnp.moveaxis(uv_map, 0, 2).reshape(rows * columns, batch * channels)
    first = low * columns + left
    corners = jnp.stack([first, first + 1, first + columns, first + columns + 1])
    left_share, low_share = 1 - right_share, 1 - high_share
    shares = [left_share * low_share, right_share * low_share, left_share * high_share, right_share * high_share]
    samples = _mix_rows(texels, corners, jnp.stack(shares))
    return jnp.moveaxis(samples.reshape(-1, batch, channels), 1, 0)


@jax.custom_vjp
def _mix_rows(rows: Float[Array, "t c"], index: Int[Array, "k n"], share: Float[Array, "k n"]) -> Float[Array, "n c"]:
    """Sum over k of share[k] rows[index[k]]."""
    parts = [rows[index[k]] * share[k][:, None] for k in range(index.shape[0])]
    return functools.reduce(jnp.add, parts)


def _mix_rows_backward(inputs, gradient):
    """All k scatter into one array; autodiff would fill one for each and add them up."""
    rows, index, share = inputs
    total = jnp.zeros(rows.shape, gradient.dtype)
    for k in range(index.shape[0]):
        total = total.at[index[k]].add(gradient * share[k][:, None])
    of_share = jnp.stack([jnp.sum(rows[index[k]] * gradient, axis=1) for k in range(index.shape[0])])
    return total.astype(rows.dtype), None, of_share.astype(share.dtype)


_mix_rows.defvjp(lambda *inputs: (_mix_rows(*inputs), inputs), _mix_rows_backward)
