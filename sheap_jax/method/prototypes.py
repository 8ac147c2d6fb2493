"""The life of Gaussian prototypes: initial anchors, running statistics, densification and pruning.

Prototypes live at fixed capacity with an active mask, so that shapes never change under jit. The summary of the paper
says both that two per face grow to about four, and that their total is constant: here they grow while free slots
last, and from then on every new prototype takes the slot of a pruned one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from sheap_jax.types import MAX_PER_FACE, PrototypeState

# Anchors of k prototypes on one face (barycentric), distinct and interior. Two stand side by side along v1 - v0,
# the first axis of the triangle's frame.
_CORNERS = [(2 / 3, 1 / 6, 1 / 6), (1 / 6, 2 / 3, 1 / 6), (1 / 6, 1 / 6, 2 / 3)]
_MIDDLES = [(5 / 12, 5 / 12, 1 / 6), (1 / 6, 5 / 12, 5 / 12), (5 / 12, 1 / 6, 5 / 12)]
_CENTROID = (1 / 3, 1 / 3, 1 / 3)
_ANCHORS = {
    1: [_CENTROID],
    2: [(1 / 2, 1 / 6, 1 / 3), (1 / 6, 1 / 2, 1 / 3)],
    3: _CORNERS,
    4: [*_CORNERS, _CENTROID],
    5: [*_CORNERS, *_MIDDLES[:2]],
    6: [*_CORNERS, *_MIDDLES],
}
assert max(_ANCHORS) == MAX_PER_FACE


class Densified(NamedTuple):
    """Result of one round of densification."""

    prototypes: PrototypeState
    embedding: Float[Array, "n d"]
    moments: Any  # the pytree given, with the rows of new prototypes at zero
    source: Int[Array, "n"]  # slot that each slot's prototype comes from; its own index unless new
    fresh: Bool[Array, "n"]  # which slots hold a new prototype


def init_prototypes(num_faces: int, *, per_face: int = 2, capacity: int | None = None) -> PrototypeState:
    """`per_face` active prototypes on each of `num_faces` faces, then inactive slots up to `capacity`.

    Raises ValueError if `per_face` is not 1 to MAX_PER_FACE or `capacity` is too small.
    """
    if per_face not in _ANCHORS:
        raise ValueError(f"per_face must be 1 to {MAX_PER_FACE}, not {per_face}")
    count = num_faces * per_face
    capacity = count if capacity is None else capacity
    if capacity < count:
        raise ValueError(f"capacity {capacity} is less than {per_face} prototypes on each of {num_faces} faces")
    spare = capacity - count
    anchors = np.concatenate([np.tile(_ANCHORS[per_face], (num_faces, 1)), np.tile(_CENTROID, (spare, 1))])
    parent_face = np.concatenate([np.repeat(np.arange(num_faces), per_face), np.zeros(spare)])
    return PrototypeState(
        parent_face=jnp.asarray(parent_face, jnp.int32),
        barycentric=jnp.asarray(anchors, jnp.float32),
        active=jnp.arange(capacity) < count,
        opacity_mean=jnp.full(capacity, 0.5, jnp.float32),
        gradient_norm=jnp.zeros(capacity, jnp.float32),
    )


def update_statistics(
    prototypes: PrototypeState,
    opacities: Float[Array, "b n"],
    screen_gradients: Float[Array, "b n 2"],
    *,
    decay: float = 0.99,
) -> PrototypeState:
    """Running means of the opacity and of the norm of the loss gradient at the surfel's screen position."""
    norms = jnp.mean(jnp.linalg.norm(screen_gradients, axis=-1), axis=0)
    return prototypes._replace(
        opacity_mean=_blend(prototypes.opacity_mean, jnp.mean(opacities, axis=0), decay),
        gradient_norm=_blend(prototypes.gradient_norm, norms, decay),
    )


def densify_and_prune(
    prototypes: PrototypeState,
    embedding: Float[Array, "n d"],
    moments: Any,
    key: Key[Array, ""],
    *,
    count: int,
    min_per_face: int = 1,
    max_per_face: int = MAX_PER_FACE,
    noise: float = 0.1,
) -> Densified:
    """Duplicate the `count` prototypes of largest gradient; prune those of lowest opacity if slots run short.

    Every face keeps between `min_per_face` and `max_per_face` active prototypes, and the number of active ones never
    falls. A duplicate gets its parent's row of `embedding` with `noise` (relative to the embedding's root mean square)
    added, an anchor moved by `noise` within the face, and zero rows in `moments`, a pytree of arrays [n, ...]; both
    share the parent's gradient statistic. `count` is static.
    """
    parents = _select_parents(prototypes, count, max_per_face)
    victims = _select_victims(prototypes, parents, min_per_face)
    active = prototypes.active & ~victims
    capacity = active.shape[0]
    # Pair the k-th best parent with the k-th free slot, as long as both last.
    order = jnp.argsort(jnp.where(parents, -prototypes.gradient_norm, jnp.inf))[:count]
    slots = jnp.argsort(active, stable=True)[:count]
    valid = jnp.arange(count) < jnp.minimum(jnp.sum(parents), jnp.sum(~active))
    slots = jnp.where(valid, slots, capacity)  # out of range: dropped by the scatters
    source = jnp.arange(capacity).at[slots].set(order, mode="drop")
    fresh = jnp.zeros(capacity, bool).at[slots].set(True, mode="drop")
    shared = fresh | jnp.zeros(capacity, bool).at[jnp.where(valid, order, capacity)].set(True, mode="drop")
    anchor_key, embedding_key = jax.random.split(key)
    moved = _jitter(prototypes.barycentric[source], noise, anchor_key)
    spread = noise * jnp.sqrt(jnp.mean(embedding**2))
    copied = embedding[source] + spread * jax.random.normal(embedding_key, embedding.shape, embedding.dtype)
    return Densified(
        prototypes=PrototypeState(
            parent_face=prototypes.parent_face[source],
            barycentric=jnp.where(fresh[:, None], moved, prototypes.barycentric),
            active=active | fresh,
            opacity_mean=prototypes.opacity_mean[source],
            gradient_norm=jnp.where(shared, 0.5, 1.0) * prototypes.gradient_norm[source],
        ),
        embedding=jnp.where(fresh[:, None], copied, embedding),
        moments=jax.tree.map(lambda rows: jnp.where(_like(fresh, rows), 0, rows), moments),
        source=source,
        fresh=fresh,
    )


def active_per_face(prototypes: PrototypeState, num_faces: int) -> Int[Array, "f"]:
    """Number of active prototypes on each face."""
    return jax.ops.segment_sum(prototypes.active.astype(jnp.int32), prototypes.parent_face, num_faces)


def _select_parents(prototypes: PrototypeState, count: int, max_per_face: int) -> Bool[Array, "n"]:
    """The (at most) `count` active prototypes of largest gradient whose faces have room for a duplicate of each."""
    # Every face has a prototype, so there are no more faces than slots.
    occupied = active_per_face(prototypes, prototypes.active.shape[0])
    room = max_per_face - occupied[prototypes.parent_face]
    eligible = prototypes.active & (_rank_on_face(prototypes, -prototypes.gradient_norm) < room)
    return _smallest(jnp.where(eligible, -prototypes.gradient_norm, jnp.inf), count)


def _select_victims(prototypes: PrototypeState, parents: Bool[Array, "n"], min_per_face: int) -> Bool[Array, "n"]:
    """As many of the least opaque prototypes as `parents` lack free slots, the most opaque of each face excepted."""
    needed = jnp.sum(parents) - jnp.sum(~prototypes.active)
    spare = _rank_on_face(prototypes, -prototypes.opacity_mean) >= min_per_face
    eligible = prototypes.active & spare & ~parents
    return _smallest(jnp.where(eligible, prototypes.opacity_mean, jnp.inf), needed)


def _rank_on_face(prototypes: PrototypeState, value: Float[Array, "n"]) -> Int[Array, "n"]:
    """Position of each active prototype among the active ones of its face, smallest value first."""
    capacity = value.shape[0]
    face = jnp.where(prototypes.active, prototypes.parent_face, jnp.iinfo(jnp.int32).max)
    order = jnp.lexsort((value, face))
    sorted_face = face[order]
    first = jnp.searchsorted(sorted_face, sorted_face, side="left")
    return jnp.zeros(capacity, jnp.int32).at[order].set((jnp.arange(capacity) - first).astype(jnp.int32))


def _smallest(value: Float[Array, "n"], count: int | Int[Array, ""]) -> Bool[Array, "n"]:
    """Mask of the `count` smallest finite values, ties by index."""
    rank = jnp.argsort(jnp.argsort(value))
    return (rank < count) & jnp.isfinite(value)


def _jitter(barycentric: Float[Array, "n 3"], noise: float, key: Key[Array, ""]) -> Float[Array, "n 3"]:
    """Barycentric coordinates moved at random, still inside the face."""
    moved = barycentric + noise * jax.random.normal(key, barycentric.shape, barycentric.dtype)
    moved = jnp.maximum(moved, 0.05)
    return moved / jnp.sum(moved, axis=-1, keepdims=True)


def _blend(old: Float[Array, "n"], new: Float[Array, "n"], decay: float) -> Float[Array, "n"]:
    return decay * old + (1 - decay) * new


def _like(mask: Bool[Array, "n"], rows: Array) -> Bool[Array, "n ..."]:
    """The mask with as many axes as `rows`."""
    return mask.reshape(-1, *[1] * (rows.ndim - 1))
