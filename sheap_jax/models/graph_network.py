"""Graph network over Gaussian prototypes, computed on faces.

Two prototypes are neighbours when their parent faces are: so the mean over a prototype's neighbours depends on its
face alone. Prototypes are summed into faces, faces over a fixed neighbourhood, and the result is read back by every
prototype: the same numbers as a graph over prototypes, without its edges (SHeaP, section 3.2).

Sums here, those of gradients included, are written as gathers. Autodiff would scatter: on GPUs with atomics, and so in
no fixed order.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sheap_jax.models.transformer import Dtype, gelu
from sheap_jax.types import MAX_PER_FACE, PrototypeState


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


class FaceSlots(NamedTuple):
    """Where the active prototypes of each face lie, and on which face each prototype."""

    slot: Int[Array, "f k"]  # any where a face has fewer than k
    valid: Bool[Array, "f k"]
    parent_face: Int[Array, "n"]
    active: Bool[Array, "n"]


def face_slots(prototypes: PrototypeState, faces: int, *, most: int) -> FaceSlots:
    """The slots of each of `faces` faces, which has at most `most` active prototypes; more would be left out."""
    capacity = prototypes.parent_face.shape[0]
    face = jnp.where(prototypes.active, prototypes.parent_face, faces)
    order = jnp.argsort(face, stable=True).astype(jnp.int32)
    bounds = jnp.searchsorted(face[order], jnp.arange(faces + 1)).astype(jnp.int32)
    place = bounds[:-1, None] + jnp.arange(most, dtype=jnp.int32)
    slot = order[jnp.minimum(place, capacity - 1)]
    return FaceSlots(slot, place < bounds[1:, None], prototypes.parent_face, prototypes.active)


class GraphNetwork(nn.Module):
    """ResNet-style graph convolutions from `width` channels to `outputs`; the last layer starts at zero."""

    width: int
    depth: int
    outputs: int
    dtype: Dtype = jnp.float32
    most_per_face: int = MAX_PER_FACE  # active prototypes

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "n b w"], prototypes: PrototypeState, neighbourhood: FaceNeighbourhood
    ) -> Float[Array, "n b o"]:
        """One row of outputs per prototype and image, float32; those of inactive prototypes mean nothing.

        Prototypes come first, so that one gathered row holds all images of the batch.
        """
        slots = face_slots(prototypes, neighbourhood.index.shape[0], most=self.most_per_face)
        for layer in range(self.depth):
            block = GraphBlock(self.width, self.dtype, name=f"block_{layer}")
            nodes = nodes + block(nodes, slots, neighbourhood)
        hidden = gelu(nn.LayerNorm(dtype=self.dtype, name="norm")(_flat(nodes)))
        # Products of what there is in `dtype`, sums and results in float32.
        product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
        dense = nn.Dense(
            self.outputs, dtype=self.dtype, kernel_init=nn.initializers.zeros, dot_general=product, name="out"
        )
        return dense(hidden).astype(jnp.float32).reshape(*nodes.shape[:2], self.outputs)


class GraphBlock(nn.Module):
    """W_3 gelu(W_1 x + W_2 mean over the neighbours of x): the residual of one block.

    There is no norm inside: the stack is shallow, its inputs are of order one and its end is normed. On CPUs a norm
    here would double the time of the block.
    """

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "n b w"], slots: FaceSlots, neighbourhood: FaceNeighbourhood
    ) -> Float[Array, "n b w"]:
        nodes = nodes.astype(self.dtype)
        around = neighbour_mean(nodes, slots, neighbourhood)
        around = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="neighbours")(_flat(around))
        around = read_faces(around.reshape(-1, nodes.shape[1], self.width), slots)
        own = nn.Dense(self.width, dtype=self.dtype, name="own")(_flat(nodes))
        hidden = gelu(own + _flat(around))
        return nn.Dense(self.width, dtype=self.dtype, name="out")(hidden).reshape(nodes.shape)


def _flat(nodes: Float[Array, "n b w"]) -> Float[Array, "nb w"]:
    """One row per node and image: dense layers and their gradients run as one plain matrix product."""
    return nodes.reshape(-1, nodes.shape[-1])


def neighbour_mean(
    nodes: Float[Array, "n b w"], slots: FaceSlots, neighbourhood: FaceNeighbourhood
) -> Float[Array, "f b w"]:
    """Mean over the active prototypes on the faces around each face; zero where there are none."""
    total = neighbour_sum(sum_on_faces(nodes, slots), neighbourhood)
    count = neighbour_sum(jnp.sum(slots.valid, axis=1, dtype=jnp.float32), neighbourhood)
    return total / jnp.maximum(count, 1).astype(total.dtype)[:, None, None]


@jax.custom_vjp
def sum_on_faces(nodes: Float[Array, "n b w"], slots: FaceSlots) -> Float[Array, "f b w"]:
    """Sum over the active prototypes of each face. `read_faces` is its transpose.

    A TPU scatters rows in order, and then moves less memory than six gathers do.
    """
    return jax.lax.platform_dependent(nodes, slots, tpu=_scatter_on_faces, default=_gather_on_faces)


def _gather_on_faces(nodes: Float[Array, "n b w"], slots: FaceSlots) -> Float[Array, "f b w"]:
    rows = [jnp.where(slots.valid[:, k, None, None], nodes[slots.slot[:, k]], 0) for k in range(slots.slot.shape[1])]
    return functools.reduce(jnp.add, rows)


def _scatter_on_faces(nodes: Float[Array, "n b w"], slots: FaceSlots) -> Float[Array, "f b w"]:
    seen = jnp.where(slots.active[:, None, None], nodes, 0)
    return jax.ops.segment_sum(seen, slots.parent_face, slots.slot.shape[0])


@jax.custom_vjp
def read_faces(values: Float[Array, "f b w"], slots: FaceSlots) -> Float[Array, "n b w"]:
    """Each active prototype's row of its face, zeros for the others. `sum_on_faces` is its transpose."""
    return jnp.where(slots.active[:, None, None], values[slots.parent_face], 0)


sum_on_faces.defvjp(
    lambda nodes, slots: (sum_on_faces(nodes, slots), slots),
    lambda slots, gradient: (read_faces(gradient, slots), None),
)
read_faces.defvjp(
    lambda values, slots: (read_faces(values, slots), slots),
    lambda slots, gradient: (sum_on_faces(gradient, slots), None),
)


@jax.custom_vjp
def neighbour_sum(values: Float[Array, "f *b"], neighbourhood: FaceNeighbourhood) -> Float[Array, "f *b"]:
    """Sum over each face's neighbourhood.

    The neighbourhood is symmetric, so this linear map is its own transpose.
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
