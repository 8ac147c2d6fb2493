"""The train state: everything that a checkpoint must hold for an exact resume."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from sheap_jax.types import Prototypes

Params = dict[str, Any]  # {"estimator": ..., "regressor": ...}


@flax.struct.dataclass
class TrainState:
    """The data pipeline needs no entry: (seed, step) fixes its position (sheap_jax/data/pairs.py)."""

    step: Int[Array, ""]  # steps done
    params: Params
    opt_state: optax.OptState
    prototypes: Prototypes
    key: Key[Array, ""]  # never used itself: step k uses fold_in(key, k)


def make_optimizer(
    *,
    steps: int,
    learning_rate: float,
    regressor_learning_rate: float,
    warmup_steps: int,
    final_share: float,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """AdamW with linear warm-up and cosine decay; each network has its own peak rate and its own gradient clipping.

    Matrices decay, vectors (biases, norms, tokens of one axis) do not.
    """

    def one(peak: float) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, peak, min(warmup_steps, max(steps - 1, 1)), max(steps, 2), end_value=peak * final_share
        )
        return optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.adamw(schedule, b2=0.99, weight_decay=weight_decay, mask=_decays),
        )

    networks = {"estimator": one(learning_rate), "regressor": one(regressor_learning_rate)}
    return optax.partition(networks, lambda params: {name: name for name in params})


def _decays(params: Params) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def init_state(
    params: Params, prototypes: Prototypes, optimizer: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        prototypes=prototypes,
        key=key,
    )
