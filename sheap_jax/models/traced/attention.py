"""Attention as one operation, and the softmax of attention that is spelled out, under TorchScript's names."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.models.traced.elementwise import Operation
from sheap_jax.models.traced.layers import LAYERS


def _softmax(self: Array, dim: int, dtype: str | None = None) -> Array:
    return jax.nn.softmax(self if dtype is None else self.astype(dtype), axis=dim)


def _log_softmax(self: Array, dim: int, dtype: str | None = None) -> Array:
    return jax.nn.log_softmax(self if dtype is None else self.astype(dtype), axis=dim)


def _dot_product_attention(
    query: Float[Array, "*b q d"],
    key: Float[Array, "*b k d"],
    value: Float[Array, "*b k e"],
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Array, "*b q e"]:
    """A numeric mask is added to the scores; a boolean mask says which keys are attended to."""
    if dropout_p:
        raise ValueError("the network was traced in training mode: its answers are random")
    if enable_gqa:
        raise NotImplementedError("groups of queries are not known here")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ jnp.swapaxes(key, -1, -2) * scale
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None and attn_mask.dtype == bool:
        scores = jnp.where(attn_mask, scores, -jnp.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return jax.nn.softmax(scores, axis=-1) @ value


def _heads(x: Float[Array, "b n d"], count: int) -> Float[Array, "b h n e"]:
    return jnp.swapaxes(x.reshape(*x.shape[:2], count, -1), 1, 2)


def _multi_head(
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k d"],
    embed_dim: int,
    num_head: int,
    qkv_weight: Float[Array, "3d d"],
    qkv_bias: Float[Array, "3d"],
    proj_weight: Float[Array, "d d"],
    proj_bias: Float[Array, "d"],
    mask: Any = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: Any = None,
) -> tuple[Array, Array | None]:
    """torch's fused nn.MultiheadAttention: the output, and the attention weights if wanted."""
    if mask is not None:
        raise NotImplementedError("masks of fused attention are not known here")
    parts = zip((query, key, value), jnp.split(qkv_weight, 3), jnp.split(qkv_bias, 3), strict=True)
    q, k, v = (_heads(x @ weight.T + bias, num_head) for x, weight, bias in parts)
    attention = jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2) / math.sqrt(embed_dim // num_head), axis=-1)
    joined = jnp.swapaxes(attention @ v, 1, 2).reshape(*query.shape[:2], embed_dim)
    shown = (attention.mean(axis=1) if average_attn_weights else attention) if need_weights else None
    return joined @ proj_weight.T + proj_bias, shown


def _encoder_layer(
    src: Float[Array, "b n d"],
    embed_dim: int,
    num_heads: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Array,
    norm_bias_1: Array,
    norm_weight_2: Array,
    norm_bias_2: Array,
    ffn_weight_1: Array,
    ffn_bias_1: Array,
    ffn_weight_2: Array,
    ffn_bias_2: Array,
    mask: Any = None,
    mask_type: Any = None,
) -> Float[Array, "b n d"]:
    """torch's fused nn.TransformerEncoderLayer."""
    norm, linear = LAYERS["aten::layer_norm"], LAYERS["aten::linear"]

    def attend(x: Array) -> Array:
        projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        return _multi_head(x, x, x, embed_dim, num_heads, *projections, mask, need_weights=False)[0]

    def feed_forward(x: Array) -> Array:
        hidden = linear(x, ffn_weight_1, ffn_bias_1)
        hidden = jax.nn.gelu(hidden, approximate=False) if use_gelu else jax.nn.relu(hidden)
        return linear(hidden, ffn_weight_2, ffn_bias_2)

    x = src
    for part, weight, bias in ((attend, norm_weight_1, norm_bias_1), (feed_forward, norm_weight_2, norm_bias_2)):
        if norm_first:
            x = x + part(norm(x, [embed_dim], weight, bias, eps))
        else:
            x = norm(x + part(x), [embed_dim], weight, bias, eps)
    return x


ATTENTION: dict[str, Operation] = {
    "aten::softmax": _softmax,
    "aten::log_softmax": _log_softmax,
    "aten::scaled_dot_product_attention": _dot_product_attention,
    "aten::_native_multi_head_attention": _multi_head,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
}
