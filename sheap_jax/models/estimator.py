"""The 3DMM estimator: from one image to geometry, light and identity features."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.models.transformer import PLAIN, Dtype, VitStyle, gelu
from sheap_jax.models.vit import Vit, normalize_images
from sheap_jax.types import Estimate, HeadParams


class EstimatorOutput(NamedTuple):
    """What the estimator knows about an image."""

    estimate: Estimate
    patch_tokens: Float[Array, "b t d"]  # context for the Gaussian regressor where no DINOv2 is used


class HeadEstimator(nn.Module):
    """A ViT with five learnable tokens (shape, expression, pose, light, features) and an MLP head on each.

    The last layers of the heads start at zero, except that of the features: the first prediction is the mean head,
    unrotated, at `translation_mean`. The scales turn outputs of order one into the units of the model, so that one
    learning rate suits all heads. The defaults are the paper's ViT-B/16.
    """

    num_shape: int
    num_expression: int
    num_light: int
    num_joints: int
    free_joints: tuple[int, ...] = (0, 2)  # joints whose rotation is predicted (FLAME: root, jaw); others stay zero
    fixed_expressions: tuple[int, ...] = ()  # channels that stay zero
    feature_dim: int = 512
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    grid: int = 14  # patches per side of the image size that positions are stored for
    mlp_ratio: float = 4.0
    head_width: int = 512
    shape_scale: float = 1.0
    expression_scale: float = 1.0
    rotation_scale: float = 0.3  # radians
    translation_scale: tuple[float, float, float] = (0.03, 0.03, 0.1)  # metres; z is known least
    translation_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    light_scale: float = 1.0
    nonnegative_expression: bool = False  # for blendshapes that only make sense between 0 and 1
    dtype: Dtype = jnp.float32
    remat: bool = False
    from_scratch: bool = False  # see patches.MergeStem and patches.TokenSeed
    style: VitStyle = PLAIN  # FARL where the weights are FaRL's

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> EstimatorOutput:
        """Estimates for RGB images in [0, 1], float32 whatever `dtype` is."""
        vit = Vit(
            patch=self.patch,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            grid=self.grid,
            num_extra=5,
            mlp_ratio=self.mlp_ratio,
            dtype=self.dtype,
            remat=self.remat,
            from_scratch=self.from_scratch,
            style=self.style,
            name="vit",
        )
        tokens = vit(normalize_images(images, self.style))
        shape, expression, pose, light, features = (tokens.extra[:, k] for k in range(5))
        joints = len(self.free_joints)
        pose = self._head("pose", 3 * joints + 3)(pose)
        expression = self.expression_scale * self._head("expression", self.num_expression)(expression)
        expression = nonnegative(expression) if self.nonnegative_expression else expression
        if self.fixed_expressions:
            expression = expression.at[:, jnp.array(self.fixed_expressions)].set(0.0)
        head = HeadParams(
            shape=self.shape_scale * self._head("shape", self.num_shape)(shape),
            expression=expression,
            rotations=self._rotations(pose[:, : 3 * joints].reshape(-1, joints, 3)),
            translation=pose[:, 3 * joints :] * jnp.array(self.translation_scale) + jnp.array(self.translation_mean),
        )
        estimate = Estimate(
            head=head,
            light=self.light_scale * self._head("light", self.num_light)(light),
            features=self._head("features", self.feature_dim, zero=False)(features),
        )
        return EstimatorOutput(estimate=estimate, patch_tokens=tokens.patches)

    def _head(self, name: str, outputs: int, *, zero: bool = True) -> "TokenHead":
        return TokenHead(self.head_width, outputs, zero, self.dtype, name=f"{name}_head")

    def _rotations(self, free: Float[Array, "b k 3"]) -> Float[Array, "b j 3"]:
        """Rotation vectors of all joints from those of the free ones."""
        rotations = jnp.zeros((free.shape[0], self.num_joints, 3), free.dtype)
        return rotations.at[:, jnp.array(self.free_joints)].set(self.rotation_scale * free)


class TokenHead(nn.Module):
    """Layer norm and a two-layer MLP on one token; the last layer is float32, and zero at first if `zero`."""

    hidden: int
    outputs: int
    zero: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, token: Float[Array, "b d"]) -> Float[Array, "b o"]:
        hidden = nn.LayerNorm(dtype=self.dtype, name="norm")(token)
        hidden = gelu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(hidden))
        initial = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        return nn.Dense(self.outputs, kernel_init=initial, name="out")(hidden.astype(jnp.float32))


def nonnegative(x: Float[Array, "*b"], *, sharpness: float = 10.0) -> Float[Array, "*b"]:
    """A smooth ramp: 0.03 at x = 0, close to x beyond 0.3, never dead."""
    return jax.nn.softplus(sharpness * x - 1.0) / sharpness
