"""Densification as a step of its own: prototypes, their embeddings and the optimiser's rows change together."""

from collections.abc import Callable

import jax

from sheap_jax import prototypes as prototype_rules
from sheap_jax.training.state import TrainState


def make_densify(*, share: float, min_per_face: int = 1, max_per_face: int = 6) -> Callable[[TrainState], TrainState]:
    """A jitted function that duplicates `share` of all slots' number of prototypes (and prunes as many when full).

    New prototypes start with empty optimiser moments. Every device of a mesh computes the same.
    """

    def densify(state: TrainState) -> TrainState:
        embedding = state.params["regressor"]["embedding"]
        leaves, structure = jax.tree_util.tree_flatten_with_path(state.opt_state)
        rows = {i: leaf for i, (path, leaf) in enumerate(leaves) if _is_embedding(path, leaf, embedding)}
        result = prototype_rules.densify_and_prune(
            state.prototypes,
            embedding,
            rows,
            jax.random.fold_in(state.key, state.step),
            count=max(round(share * embedding.shape[0]), 1),
            min_per_face=min_per_face,
            max_per_face=max_per_face,
        )
        moments = [result.moments.get(i, leaf) for i, (_, leaf) in enumerate(leaves)]
        regressor = state.params["regressor"] | {"embedding": result.embedding}
        return state.replace(
            params=state.params | {"regressor": regressor},
            opt_state=jax.tree.unflatten(structure, moments),
            prototypes=result.prototypes,
        )

    return jax.jit(densify, donate_argnums=0)


def _is_embedding(path, leaf, embedding) -> bool:
    """Whether a leaf of the optimiser's state belongs to the embedding, row by row."""
    return bool(path) and getattr(path[-1], "key", None) == "embedding" and leaf.shape == embedding.shape
