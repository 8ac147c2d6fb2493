"""One training step: gradients, update, prototype statistics. Pure and jitted; nothing is sent to the host."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from sheap_jax import prototypes as prototype_rules
from sheap_jax.config import LossWeights
from sheap_jax.reanimation import Assets, Networks
from sheap_jax.training.objective import Objective, RenderSettings, full_objective, geometry_objective
from sheap_jax.training.state import Optimizers, TrainState
from sheap_jax.types import Batch


class StepReport(NamedTuple):
    """What the host may look at, later."""

    metrics: dict[str, Float[Array, ""]]
    finite: Bool[Array, "b"]  # which pairs gave finite numbers
    applied: Bool[Array, ""]  # False: something was not finite and the state was left as it was


Step = Callable[[TrainState, Assets, Batch], tuple[TrainState, StepReport]]


def make_step(
    networks: Networks,
    optimizers: Optimizers,
    weights: LossWeights,
    settings: RenderSettings,
    *,
    rendered: bool,
) -> Step:
    """The jitted step, with the target rendered or (`rendered=False`) from landmarks alone.

    Without rendering only the estimator learns: the regressor and its schedule wait.

    A step whose loss or gradient is not finite leaves parameters, optimiser and prototypes untouched and reports it.
    """

    def step(state: TrainState, assets: Assets, batch: Batch) -> tuple[TrainState, StepReport]:
        if rendered:
            count = state.prototypes.parent_face.shape[0]
            probe = jnp.zeros((batch.source.image.shape[0], count, 2), jnp.float32)
            differentiate = jax.value_and_grad(full_objective, argnums=(0, 1), has_aux=True)
            (loss, objective), (gradient, probe_gradient) = differentiate(
                state.params, probe, networks, assets, state.prototypes, batch, weights, settings
            )
            prototypes = prototype_rules.update_statistics(state.prototypes, objective.opacities, probe_gradient)
        else:
            differentiate = jax.value_and_grad(geometry_objective, has_aux=True)
            trained = {"estimator": state.params["estimator"]}
            (loss, objective), gradient = differentiate(trained, networks, assets, batch, weights, settings.size)
            prototypes = state.prototypes
        params, opt_state = dict(state.params), dict(state.opt_state)
        for name, own in gradient.items():
            updates, opt_state[name] = optimizers[name].update(own, state.opt_state[name], state.params[name])
            params[name] = optax.apply_updates(state.params[name], updates)
        norms = {f"gradient_norm/{name}": optax.global_norm(own) for name, own in gradient.items()}
        applied = jnp.isfinite(jnp.stack([loss, *norms.values()])).all()
        proposed = dataclasses.replace(state, params=params, opt_state=opt_state, prototypes=prototypes)
        state = dataclasses.replace(_keep_unless(applied, proposed, state), step=state.step + 1)
        return state, _report(loss, objective, norms, applied)

    sharding = None if settings.mesh is None else NamedSharding(settings.mesh, P("data"))
    replicated = None if settings.mesh is None else NamedSharding(settings.mesh, P())
    if sharding is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(replicated, replicated, sharding),
        out_shardings=(replicated, replicated),
    )


def _keep_unless(applied: Bool[Array, ""], proposed: TrainState, state: TrainState) -> TrainState:
    """`proposed` where `applied`, else `state`. The key never changes within a step."""
    kept = jax.tree.map(
        lambda new, old: jnp.where(applied, new, old),
        (proposed.params, proposed.opt_state, proposed.prototypes),
        (state.params, state.opt_state, state.prototypes),
    )
    return dataclasses.replace(state, params=kept[0], opt_state=kept[1], prototypes=kept[2])


def _report(
    loss: Float[Array, ""], objective: Objective, norms: dict[str, Float[Array, ""]], applied: Bool[Array, ""]
) -> StepReport:
    metrics = {"loss": loss} | {f"loss/{name}": value for name, value in objective.terms.items()} | norms
    return StepReport(metrics, objective.finite, applied)
