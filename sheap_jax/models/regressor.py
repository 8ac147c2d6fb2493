"""The Gaussian regressor: from identity features to 14 numbers per Gaussian prototype."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.geometry import normalize
from sheap_jax.models.ablation import PrototypeMlp, UvCnn
from sheap_jax.models.graph_network import FaceNeighbourhood, GraphNetwork
from sheap_jax.models.transformer import Dtype
from sheap_jax.models.uv_generator import UvGenerator, sample_uv
from sheap_jax.types import MAX_PER_FACE, LocalSurfels, PrototypeState, SeenColors

KINDS = ("graph", "mlp", "cnn")
OUTPUTS = 14  # offset 3, scale 3, rotation 4, albedo 3, opacity 1
DARKEST = 0.02  # a colour as the start of an albedo lies between this and 1 minus this


class GaussianRegressor(nn.Module):
    """UV map generator, a learnable embedding per prototype, and a graph network over both.

    The network's last layer starts at zero; the constants added here make the first surfels lie on their faces,
    cover them, and be half opaque grey.

    Two other kinds serve the ablation: "mlp" sees features and embedding of each prototype alone, "cnn" predicts maps
    of the 14 numbers in the UV chart, which prototypes read where they sit; it has no embeddings.
    """

    kind: str = "graph"
    isotropic: bool = False  # the unit of offsets and scales: (s_u, s_v, s_n) of the triangle, or one size for all
    uv_size: int = 64
    uv_channels: int = 32
    uv_widest: int = 128  # channels of the generator's coarsest maps
    embedding_dim: int = 32
    width: int = 64
    depth: int = 2
    initial_scale: float = 0.55  # of (s_u, s_v): two to a face cover it
    scale_range: float = 4.0  # scales stay within this factor of the initial one
    offset_limit: float = 4.0  # offsets stay within this many (s_u, s_v, s_n)
    attention_size: int = 8  # UV maps up to this side attend to the context
    most_per_face: int = MAX_PER_FACE  # active prototypes
    source_colors: bool = False  # what the source shows of each prototype is an input, and where its albedo starts
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "b d"],
        context: Float[Array, "b t e"],
        prototypes: PrototypeState,
        uv_anchor: Float[Array, "n 2"],
        neighbourhood: FaceNeighbourhood,
        colors: SeenColors | None = None,
    ) -> LocalSurfels:
        """Local surfels of all prototypes, active or not; `context` are patch tokens of the source image.

        Raises ValueError for another kind than graph, mlp and cnn, and if `colors` are not those that it takes.
        """
        if (colors is not None) != self.source_colors:
            raise ValueError("a regressor gets the source's colours if, and only if, it has source_colors")
        if self.kind not in KINDS:
            raise ValueError(f"the kind of a regressor is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.kind == "cnn":
            maps = self._uv_map(features, context)
            maps = UvCnn(self.width, self.depth, OUTPUTS, self.dtype, name="cnn")(maps)
            return self.activate(sample_uv(maps, uv_anchor), prototypes, colors)
        count = prototypes.parent_face.shape[0]
        embedding = self.param("embedding", nn.initializers.normal(0.1), (count, self.embedding_dim))
        if self.kind == "graph":
            sampled = jnp.moveaxis(sample_uv(self._uv_map(features, context), uv_anchor), 1, 0)
        else:
            sampled = features[None]
        # One dense layer on their concatenation, written as a sum: the embedding is the same for the whole batch.
        nodes = nn.Dense(self.width, dtype=self.dtype, name="sampled_in")(sampled)
        nodes = nodes + nn.Dense(self.width, dtype=self.dtype, name="embedding_in")(embedding)[:, None]
        if colors is not None:
            nodes = nodes + nn.Dense(self.width, dtype=self.dtype, name="colors_in")(_color_features(colors))
        if self.kind == "graph":
            network = GraphNetwork(self.width, self.depth, OUTPUTS, self.dtype, self.most_per_face, name="graph")
            raw = network(nodes, prototypes, neighbourhood)
        else:
            raw = PrototypeMlp(self.width, self.depth, OUTPUTS, self.dtype, name="mlp")(nodes)
        return self.activate(jnp.moveaxis(raw, 0, 1), prototypes, colors)

    def _uv_map(self, features: Float[Array, "b d"], context: Float[Array, "b t e"]) -> Float[Array, "b u u c"]:
        generator = UvGenerator(
            size=self.uv_size,
            channels=self.uv_channels,
            widest=self.uv_widest,
            attention_size=self.attention_size,
            dtype=self.dtype,
            name="uv_generator",
        )
        return generator(features, context)

    def activate(
        self, raw: Float[Array, "b n 14"], prototypes: PrototypeState, colors: SeenColors | None = None
    ) -> LocalSurfels:
        """Bounded local surfels of the network's outputs; zeros give the initial surfel."""
        start = 0.0 if colors is None else _start_logit(colors)
        # Geometry moves slower than colour: an output of order one is a large move on a triangle.
        offset, scale, rotation = 0.3 * raw[..., :3], 0.3 * raw[..., 3:6], 0.3 * raw[..., 6:10]
        identity = jnp.array([1.0, 0.0, 0.0, 0.0])
        return LocalSurfels(
            offset=_limit(offset, self.offset_limit),
            scale=self.initial_scale * jnp.exp(_limit(scale, math.log(self.scale_range))),
            rotation=normalize(identity + rotation),
            albedo=jax.nn.sigmoid(raw[..., 10:13] + start),
            opacity=jnp.where(prototypes.active, jax.nn.sigmoid(raw[..., 13]), 0.0),
        )


def _color_features(colors: SeenColors) -> Float[Array, "n b 4"]:
    """Prototypes first, as the graph network has them; nothing but 0 where a prototype is not seen."""
    features = jnp.concatenate([colors.seen[..., None] * (colors.color - 0.5), colors.seen[..., None]], axis=-1)
    return jnp.moveaxis(features, 1, 0)


def _start_logit(colors: SeenColors) -> Float[Array, "b n 3"]:
    """The colour seen before the sigmoid; grey where nothing is seen."""
    bounded = jnp.clip(colors.color, DARKEST, 1.0 - DARKEST)
    return colors.seen[..., None] * (jnp.log(bounded) - jnp.log1p(-bounded))


def _limit(x: Float[Array, "*b"], limit: float) -> Float[Array, "*b"]:
    """x near zero, never beyond +-limit."""
    return limit * jnp.tanh(x / limit)
