"""What the graph network is compared with (SHeaP's ablation): a plain MLP and a plain CNN over the UV chart.

The paper only names them. Both are our design, with the graph network's width and depth.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.models.transformer import Dtype, gelu


class PrototypeMlp(nn.Module):
    """Residual MLP on every prototype alone: the graph network without neighbours; the last layer starts at zero."""

    width: int
    depth: int
    outputs: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, nodes: Float[Array, "*b w"]) -> Float[Array, "*b o"]:
        for layer in range(self.depth):
            hidden = gelu(nn.Dense(self.width, dtype=self.dtype, name=f"own_{layer}")(nodes))
            nodes = nodes + nn.Dense(self.width, dtype=self.dtype, name=f"out_{layer}")(hidden)
        hidden = gelu(nn.LayerNorm(dtype=self.dtype, name="norm")(nodes)).astype(jnp.float32)
        return nn.Dense(self.outputs, kernel_init=nn.initializers.zeros, name="out")(hidden)


class UvCnn(nn.Module):
    """Residual 3 x 3 convolutions on a UV map; the last layer starts at zero."""

    width: int
    depth: int
    outputs: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, uv_map: Float[Array, "b u u c"]) -> Float[Array, "b u u o"]:
        maps = nn.Dense(self.width, dtype=self.dtype, name="in")(uv_map)
        for layer in range(self.depth):
            hidden = nn.Conv(self.width, (3, 3), dtype=self.dtype, name=f"convolution_{layer}")(maps)
            hidden = gelu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{layer}")(hidden))
            maps = maps + nn.Conv(self.width, (3, 3), dtype=self.dtype, name=f"out_{layer}")(hidden)
        hidden = gelu(nn.LayerNorm(dtype=self.dtype, name="norm")(maps)).astype(jnp.float32)
        return nn.Dense(self.outputs, kernel_init=nn.initializers.zeros, name="out")(hidden)
