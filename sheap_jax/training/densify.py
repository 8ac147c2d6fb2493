"""Densification as a step of its own: prototypes, their embeddings and the optimiser's rows change together."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from sheap_jax.method import prototypes as prototype_rules
from sheap_jax.training.state import Params, TrainState


def make_densify(*, share: float, shardings: TrainState | None = None) -> Callable[[TrainState], TrainState]:
    """A jitted function that duplicates prototypes: as many as `share` of all slots. When full, it prunes as many.

    New prototypes start with empty optimiser moments. Every device of a mesh computes the same; `shardings` as for
    `make_step`.
    """

    def densify(state: TrainState) -> TrainState:
        regressor = state.params["regressor"]
        none = jnp.zeros((state.prototypes.active.shape[0], 0))  # the CNN of the ablation has no embeddings
        flat, unravel = ravel_pytree(regressor)
        paths, structure = jax.tree_util.tree_flatten_with_path(state.opt_state["regressor"])
        leaves = [leaf for _, leaf in paths]
        # Moments are one vector for all arrays, or shaped like the parameters (config.optimizer.flat_moments).
        trees = {i: unravel(leaf) for i, leaf in enumerate(leaves) if leaf.shape == flat.shape}
        trees |= {i: {"embedding": leaf} for i, (path, leaf) in enumerate(paths) if _is_embedding(path)}
        result = prototype_rules.densify_and_prune(
            state.prototypes,
            regressor.get("embedding", none),
            {i: tree.get("embedding", none) for i, tree in trees.items()},
            jax.random.fold_in(state.key, state.step),
            count=max(round(share * state.prototypes.active.shape[0]), 1),
        )
        if shardings is not None:  # random numbers are those of one device, however the embeddings are shared out
            result = jax.lax.with_sharding_constraint(result, shardings.step)
        for i, tree in trees.items():
            changed = _with_embedding(tree, result.moments[i])
            leaves[i] = ravel_pytree(changed)[0] if leaves[i].shape == flat.shape else changed["embedding"]
        return dataclasses.replace(
            state,
            params=state.params | {"regressor": _with_embedding(regressor, result.embedding)},
            opt_state=state.opt_state | {"regressor": jax.tree.unflatten(structure, leaves)},
            prototypes=result.prototypes,
        )

    return jax.jit(densify, donate_argnums=0, out_shardings=shardings)


def _with_embedding(tree: Params, embedding: Float[Array, "n d"]) -> Params:
    """The tree with another embedding, if it has one."""
    return tree | {"embedding": embedding} if "embedding" in tree else tree


def _is_embedding(path: tuple) -> bool:
    return bool(path) and path[-1] == jax.tree_util.DictKey("embedding")
