"""Densification as a step of its own: prototypes, their embeddings and the optimiser's rows change together."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from sheap_jax import prototypes as prototype_rules
from sheap_jax.training.state import Params, TrainState


def make_densify(*, share: float, min_per_face: int = 1, max_per_face: int = 6) -> Callable[[TrainState], TrainState]:
    """A jitted function that duplicates `share` of all slots' number of prototypes (and prunes as many when full).

    New prototypes start with empty optimiser moments. Every device of a mesh computes the same.
    """

    def densify(state: TrainState) -> TrainState:
        regressor = state.params["regressor"]
        none = jnp.zeros((state.prototypes.active.shape[0], 0))  # the CNN of the ablation has no embeddings
        embedding = regressor.get("embedding", none)
        flat, unravel = ravel_pytree(regressor)
        leaves, structure = jax.tree.flatten(state.opt_state["regressor"])
        moments = {i: unravel(leaf) for i, leaf in enumerate(leaves) if leaf.shape == flat.shape}
        result = prototype_rules.densify_and_prune(
            state.prototypes,
            embedding,
            {i: tree.get("embedding", none) for i, tree in moments.items()},
            jax.random.fold_in(state.key, state.step),
            count=max(round(share * embedding.shape[0]), 1),
            min_per_face=min_per_face,
            max_per_face=max_per_face,
        )
        for i, tree in moments.items():
            leaves[i] = ravel_pytree(_with_embedding(tree, result.moments[i]))[0]
        regressor = _with_embedding(regressor, result.embedding)
        return dataclasses.replace(
            state,
            params=state.params | {"regressor": regressor},
            opt_state=state.opt_state | {"regressor": jax.tree.unflatten(structure, leaves)},
            prototypes=result.prototypes,
        )

    return jax.jit(densify, donate_argnums=0)


def _with_embedding(tree: Params, embedding: Float[Array, "n d"]) -> Params:
    """The tree with another embedding, if it has one."""
    return tree | {"embedding": embedding} if "embedding" in tree else tree
