"""The pre-LN transformer block (Dosovitskiy et al., ICLR 2021) and what published networks change in it."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Dtype = jnp.dtype | type


class VitStyle(NamedTuple):
    """What sets vision transformers of one size apart. The defaults are ours, for training without weights."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of the images that the network saw, RGB in [0, 1]
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)
    class_token: bool = False
    registers: int = 0  # learned tokens without positions (Darcet et al., ICLR 2024)
    patch_bias: bool = True
    norm_before: bool = False  # a layer norm of all tokens before the first block
    epsilon: float = 1e-6  # of the layer norms
    quick_gelu: bool = False
    layer_scale: bool = False  # a learned gain per channel at the end of each residual
    positions: str = "smooth"  # how the position grid is resized, see positions.resize_positions
    extra_deviation: float = 0.5  # standard deviation of the extra tokens at the start


PLAIN = VitStyle()
FARL = VitStyle(  # the visual half of CLIP (Radford et al., ICML 2021), which FaRL took over
    mean=(0.48145466, 0.4578275, 0.40821073),
    deviation=(0.26862954, 0.26130258, 0.27577711),
    class_token=True,
    patch_bias=False,
    norm_before=True,
    epsilon=1e-5,
    quick_gelu=True,
    extra_deviation=0.02,
)
DINOV2 = VitStyle(  # Oquab et al., TMLR 2024
    mean=(0.485, 0.456, 0.406),
    deviation=(0.229, 0.224, 0.225),
    class_token=True,
    layer_scale=True,
    positions="offset",
)
DINOV2_REGISTERS = DINOV2._replace(registers=4, positions="antialias")
STYLES = {"plain": PLAIN, "farl": FARL, "dinov2": DINOV2, "dinov2_registers": DINOV2_REGISTERS}


class TransformerBlock(nn.Module):
    """Self-attention and MLP, each behind a layer norm and added to the residual stream.

    Between the attentions tokens of all images are rows of one matrix: gradients of gains and biases are then sums over
    one axis. Over two, XLA for GPUs sums one after the other and stores the whole residual stream batch last for it.
    """

    heads: int
    mlp_ratio: float
    dtype: Dtype
    style: VitStyle = PLAIN

    @nn.compact
    def __call__(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        width = tokens.shape[-1]
        rows = tokens.reshape(-1, width)
        normed = self._norm("attention_norm")(rows).reshape(tokens.shape)
        attended = Attention(self.heads, self.dtype, name="attention")(normed, normed)
        rows = rows + self._gain("attention_gain", attended.reshape(rows.shape))
        hidden = self._norm("mlp_norm")(rows)
        hidden = nn.Dense(int(self.mlp_ratio * width), dtype=self.dtype, name="mlp_in")(hidden)
        hidden = quick_gelu(hidden) if self.style.quick_gelu else gelu(hidden)
        rows = rows + self._gain("mlp_gain", nn.Dense(width, dtype=self.dtype, name="mlp_out")(hidden))
        return rows.reshape(tokens.shape)

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(epsilon=self.style.epsilon, dtype=self.dtype, name=name)

    def _gain(self, name: str, residual: Float[Array, "r d"]) -> Float[Array, "r d"]:
        if not self.style.layer_scale:
            return residual
        return residual * self.param(name, nn.initializers.constant(1e-5), (residual.shape[-1],))


class Attention(nn.Module):
    """Multi-head attention of `queries` to `context`; self-attention when both are the same array."""

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, queries: Float[Array, "b t d"], context: Float[Array, "b s e"]) -> Float[Array, "b t d"]:
        batch, _, width = queries.shape
        if width % self.heads:
            raise ValueError(f"width {width} does not divide into {self.heads} heads")

        def heads_of(array: Float[Array, "b t d"], name: str) -> Float[Array, "b t h k"]:
            projected = nn.Dense(width, dtype=self.dtype, name=name)(array.reshape(-1, array.shape[-1]))
            return projected.reshape(batch, -1, self.heads, width // self.heads)

        mixed = attend(heads_of(queries, "query"), heads_of(context, "key"), heads_of(context, "value"))
        return nn.Dense(width, dtype=self.dtype, name="out")(mixed.reshape(-1, width)).reshape(queries.shape)


def attend(
    query: Float[Array, "b t h k"], key: Float[Array, "b s h k"], value: Float[Array, "b s h k"]
) -> Float[Array, "b t h k"]:
    """Scaled dot-product attention (Vaswani et al., eq. 1), softmax in float32.

    The form is chosen by the platform that is traced for: cuDNN's fused kernel on GPUs for the dtypes and head sizes it
    knows, `jax.nn.dot_product_attention` elsewhere. CPUs have a form of their own, 1.2 times as fast at 8 images of 197
    tokens: heads stand before tokens, so that the batched products need no transposes inside, and weights are divided
    by their sum after the product with the values, which are fewer.
    """
    platform = target_platform()
    if platform != "cpu":
        size = query.shape[-1]
        known = query.dtype in (jnp.bfloat16, jnp.float16) and size % 8 == 0 and size <= 128
        fused = platform in ("gpu", "cuda") and known
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn" if fused else None)
    query, key, value = (array.transpose(0, 2, 1, 3) for array in (query, key, value))
    scaled = query * query.shape[-1] ** -0.5
    logits = jnp.einsum("bhtk,bhsk->bhts", scaled, key, preferred_element_type=jnp.float32)
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))  # drops out of the ratio below
    weights = jnp.exp(logits - largest)
    mixed = jnp.einsum("bhts,bhsk->bhtk", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    mixed = mixed / jnp.sum(weights, axis=-1, keepdims=True)
    return mixed.astype(value.dtype).transpose(0, 2, 1, 3)


def target_platform() -> str:
    """Where a traced program will run: the devices of an abstract mesh when compiling ahead of time, else the default.

    "cpu", "tpu", or "gpu" and "cuda" for the same.
    """
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)  # None without a mesh of devices
    return device.platform if device is not None else jax.default_backend()


def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Exact GELU through erf, which XLA compiles to faster CPU code than the erfc of jax.nn.gelu."""
    return 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


def quick_gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """x sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)
