"""Graph network over Gaussian prototypes, computed on faces.

Two prototypes are neighbours when their parent faces are: so the mean over a prototype's neighbours depends on its
face alone. Prototypes are summed into faces, faces over a fixed neighbourhood, and the result is read back by every
prototype: the same numbers as a graph over prototypes, without its edges (SHeaP, section 3.2).
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sheap_jax.models.transformer import Dtype, gelu
from sheap_jax.types import Prototypes


@flax.struct.dataclass
class FaceNeighbourhood:
    """The faces around every face, itself included. Symmetric: if g is a neighbour of f, f is one of g."""

    index: Int[Array, "f k"]  # padded with the face itself
    weight: Float[Array, "f k"]  # 1, or 0 for padding


def face_neighbourhood(faces: np.ndarray, *, rings: int = 2) -> FaceNeighbourhood:
    """Faces reachable from each face by crossing at most `rings` edges: ten for two rings on a closed manifold.

    `faces` [f, 3] are vertex indices of any mesh; holes and edges with more than two faces are fine.
    """
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).reshape(-1, 2)
    edge = np.unique(sides, axis=0, return_inverse=True)[1].reshape(-1, 3)
    faces_of_edge: list[list[int]] = [[] for _ in range(edge.max() + 1)]
    for face, its_edges in enumerate(edge):
        for one in its_edges:
            faces_of_edge[one].append(face)
    adjacent = [{other for one in its_edges for other in faces_of_edge[one]} for its_edges in edge]
    reached = [{face} for face in range(len(faces))]
    for _ in range(rings):
        reached = [set().union(*(adjacent[other] for other in around)) for around in reached]
    return _pad(reached)


def _pad(reached: list[set[int]]) -> FaceNeighbourhood:
    """Lists of neighbours as rectangular arrays."""
    width = max(len(around) for around in reached)
    index = np.repeat(np.arange(len(reached), dtype=np.int32)[:, None], width, axis=1)
    weight = np.zeros((len(reached), width), np.float32)
    for face, around in enumerate(reached):
        index[face, : len(around)] = sorted(around)
        weight[face, : len(around)] = 1.0
    return FaceNeighbourhood(jnp.asarray(index), jnp.asarray(weight))


class GraphNetwork(nn.Module):
    """ResNet-style graph convolutions from `width` channels to `outputs`; the last layer starts at zero."""

    width: int
    depth: int
    outputs: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "n b w"], prototypes: Prototypes, neighbourhood: FaceNeighbourhood
    ) -> Float[Array, "n b o"]:
        """One row of outputs per prototype and image, float32.

        Prototypes come first, so that one gathered row holds all images of the batch.
        """
        for layer in range(self.depth):
            block = GraphBlock(self.width, self.dtype, name=f"block_{layer}")
            nodes = nodes + block(nodes, prototypes, neighbourhood)
        hidden = gelu(nn.LayerNorm(dtype=self.dtype, name="norm")(_flat(nodes)))
        out = nn.Dense(self.outputs, kernel_init=nn.initializers.zeros, name="out")(hidden.astype(jnp.float32))
        return out.reshape(*nodes.shape[:2], self.outputs)


class GraphBlock(nn.Module):
    """W_3 gelu(W_1 x + W_2 mean over the neighbours of x): the residual of one block.

    There is no norm inside: the stack is shallow, its inputs are of order one and its end is normed. On CPUs a norm
    here would double the time of the block.
    """

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "n b w"], prototypes: Prototypes, neighbourhood: FaceNeighbourhood
    ) -> Float[Array, "n b w"]:
        nodes = nodes.astype(self.dtype)
        around = neighbour_mean(nodes, prototypes, neighbourhood)
        around = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="neighbours")(_flat(around))
        around = around.reshape(-1, nodes.shape[1], self.width)[prototypes.parent_face]
        own = nn.Dense(self.width, dtype=self.dtype, name="own")(_flat(nodes))
        hidden = gelu(own + _flat(around))
        return nn.Dense(self.width, dtype=self.dtype, name="out")(hidden).reshape(nodes.shape)


def _flat(nodes: Float[Array, "n b w"]) -> Float[Array, "nb w"]:
    """One row per node and image: dense layers and their gradients run as one plain matrix product."""
    return nodes.reshape(-1, nodes.shape[-1])


def neighbour_mean(
    nodes: Float[Array, "n b w"], prototypes: Prototypes, neighbourhood: FaceNeighbourhood
) -> Float[Array, "f b w"]:
    """Mean over the active prototypes on the faces around each face; zero where there are none."""
    faces = neighbourhood.index.shape[0]
    active = prototypes.active.astype(nodes.dtype)
    face_sum = jax.ops.segment_sum(nodes * active[:, None, None], prototypes.parent_face, faces)
    face_count = jax.ops.segment_sum(active.astype(jnp.float32), prototypes.parent_face, faces)
    total = neighbour_sum(face_sum, neighbourhood)
    count = neighbour_sum(face_count, neighbourhood)
    return total / jnp.maximum(count, 1).astype(total.dtype)[:, None, None]


@jax.custom_vjp
def neighbour_sum(values: Float[Array, "f *b"], neighbourhood: FaceNeighbourhood) -> Float[Array, "f *b"]:
    """Sum over each face's neighbourhood.

    The neighbourhood is symmetric, so this linear map is its own transpose: the gradient is a gather again, where
    autodiff would scatter, slower and on GPUs in no fixed order.
    """
    total = jnp.zeros_like(values)
    for k in range(neighbourhood.index.shape[1]):  # about ten gathers of whole rows, faster than one with an axis more
        weight = neighbourhood.weight[:, k].astype(values.dtype)
        total = total + values[neighbourhood.index[:, k]] * weight.reshape(-1, *[1] * (values.ndim - 1))
    return total


def _neighbour_sum_forward(values, neighbourhood):
    return neighbour_sum(values, neighbourhood), neighbourhood


def _neighbour_sum_backward(neighbourhood, gradient):
    return neighbour_sum(gradient, neighbourhood), None  # the neighbourhood is a constant


neighbour_sum.defvjp(_neighbour_sum_forward, _neighbour_sum_backward)
