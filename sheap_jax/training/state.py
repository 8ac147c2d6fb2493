"""The train state: everything that a checkpoint must hold for an exact resume."""

from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from sheap_jax.types import PrototypeState

Params = dict[str, Any]  # {"estimator": ..., "regressor": ...}
Optimizers = dict[str, optax.GradientTransformation]  # one for each network


class Learned(NamedTuple):
    """The part of a train state that predicts and renders; the rest only goes on training."""

    step: Int[Array, ""]  # steps of training behind it
    params: Params
    prototypes: PrototypeState


@flax.struct.dataclass
class TrainState:
    """The data pipeline needs no entry: (seed, step) fixes its position (sheap_jax/data/pairs.py)."""

    step: Int[Array, ""]  # steps done
    params: Params
    opt_state: dict[str, optax.OptState]  # by network
    prototypes: PrototypeState
    key: Key[Array, ""]  # never used itself: step k uses fold_in(key, k)

    @property
    def learned(self) -> Learned:
        return Learned(self.step, self.params, self.prototypes)


def init_state(params: Params, prototypes: PrototypeState, optimizers: Optimizers, key: Key[Array, ""]) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={name: optimizer.init(params[name]) for name, optimizer in optimizers.items()},
        prototypes=prototypes,
        key=key,
    )
