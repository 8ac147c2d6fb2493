"""The train state: everything that a checkpoint must hold for an exact resume."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from sheap_jax.types import Prototypes

Params = dict[str, Any]  # {"estimator": ..., "regressor": ...}
Optimizers = dict[str, optax.GradientTransformation]  # one for each network


@flax.struct.dataclass
class TrainState:
    """The data pipeline needs no entry: (seed, step) fixes its position (sheap_jax/data/pairs.py)."""

    step: Int[Array, ""]  # steps done
    params: Params
    opt_state: dict[str, optax.OptState]  # by network
    prototypes: Prototypes
    key: Key[Array, ""]  # never used itself: step k uses fold_in(key, k)


def make_optimizer(
    *, steps: int, learning_rate: float, warmup_steps: int, final_share: float, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """AdamW with gradient clipping, linear warm-up and cosine decay, for one network.

    Matrices decay; vectors (biases, norms) do not. The moments of all arrays are one flat vector: a hundred small
    arrays would each compile to kernels of their own, which costs more than everything else in a small program.
    """
    warmup = min(warmup_steps, max(steps - 1, 1))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, warmup, max(steps, 2), end_value=learning_rate * final_share
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.flatten(optax.scale_by_adam(b2=0.99)),
        optax.add_decayed_weights(weight_decay, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)),
        optax.scale_by_learning_rate(schedule),
    )


def init_state(params: Params, prototypes: Prototypes, optimizers: Optimizers, key: Key[Array, ""]) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={name: optimizer.init(params[name]) for name, optimizer in optimizers.items()},
        prototypes=prototypes,
        key=key,
    )
