"""The optimiser of a network: Adam, or Muon's orthogonalised updates for its matrices and Adam for the rest."""

import jax
import jax.numpy as jnp
import optax
from optax import contrib

# Orthogonal updates this large move a matrix's entries about as far as Adam would at the same learning rate.
MUON_SCALE = 0.4
# Orthogonalising takes ten products of a matrix with itself: beyond this side it would cost more than the network.
MUON_LARGEST_SIDE = 512


def make_schedule(
    *, steps: int, learning_rate: float, warmup_steps: int, final_share: float, restart_step: int, restart_share: float
) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then cosine decay to `final_share`; both start again at `restart_step`.

    The second peak is `restart_share` of the first. Nothing restarts where `restart_step` is not between 0 and `steps`.
    """

    def one(length: int, peak: float) -> optax.Schedule:
        warmup = min(warmup_steps, max(length - 1, 1))
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(length, 2), end_value=peak * final_share)

    if not 0 < restart_step < steps:
        return one(steps, learning_rate)
    phases = [one(restart_step, learning_rate), one(steps - restart_step, learning_rate * restart_share)]
    return optax.join_schedules(phases, [restart_step])


def applied_updates(opt_state: optax.OptState) -> int:
    """How many updates an optimiser has made: steps that were not applied do not count."""
    (_, count), *_ = optax.tree_utils.tree_get_all_with_path(opt_state, "count")
    return int(count)


def make_optimizer(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    muon: bool = False,
    appearance: optax.Schedule | None = None,
    flat_moments: bool = True,
) -> optax.GradientTransformation:
    """Gradient clipping and AdamW; with `muon`, the matrices of dense layers by Muon.

    `appearance`, if given, is the learning rate of the estimator's heads for light and features. Only pictures train
    these heads: they still have everything to learn when the geometry has nearly settled.

    Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal one, so that directions with
    small gradients move as far as those with large ones. It is scaled to the size of Adam's updates (Liu et al. 2025,
    arXiv:2502.16982, eq. 4, with another factor): one learning rate suits both. Matrices decay; vectors do not.
    """
    # Flat moments: in a small program a hundred small arrays would each compile to a kernel of their own, which costs
    # more than everything else. In a large program the copies cost more, and a flat vector cannot be sharded by array.
    adam = optax.scale_by_adam(b2=0.99)
    adam = optax.flatten(adam) if flat_moments else adam
    direction = optax.partition({"muon": _orthogonal_updates(), "adam": adam}, _kinds) if muon else adam
    scaling = optax.scale_by_learning_rate(schedule)
    if appearance is not None:
        scaling = optax.partition({"appearance": optax.scale_by_learning_rate(appearance), "geometry": scaling}, _parts)
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        direction,
        optax.add_decayed_weights(weight_decay, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)),
        scaling,
    )


def _orthogonal_updates() -> optax.GradientTransformation:
    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        del params
        return jax.tree.map(lambda update: MUON_SCALE * jnp.sqrt(float(max(update.shape))) * update, updates)

    every_matrix = contrib.scale_by_muon(
        weight_dimension_numbers=lambda updates: jax.tree.map(lambda _: contrib.MuonDimensionNumbers(), updates)
    )
    return optax.chain(every_matrix, optax.stateless(scale))


def _kinds(params: optax.Params) -> optax.Params:
    """ "muon" for the kernels of dense layers that are not too large, "adam" for all else."""

    def kind(path: tuple, leaf: jax.Array) -> str:
        is_kernel = jax.tree_util.keystr(path).endswith("['kernel']") and leaf.ndim == 2
        return "muon" if is_kernel and max(leaf.shape) <= MUON_LARGEST_SIDE else "adam"

    return jax.tree_util.tree_map_with_path(kind, params)


def _parts(params: optax.Params) -> optax.Params:
    """ "appearance" for the heads that say how a head looks, "geometry" for all that says where it is."""

    def part(path: tuple, _: jax.Array) -> str:
        return "appearance" if path[0].key in ("light_head", "features_head") else "geometry"

    return jax.tree_util.tree_map_with_path(part, params)
