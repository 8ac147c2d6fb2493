"""One training step: gradients, update, prototype statistics. Pure and jitted; nothing is sent to the host."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from sheap_jax.config import LossWeights
from sheap_jax.method import prototypes as prototype_rules
from sheap_jax.method.losses.weighting import over_devices
from sheap_jax.method.objective import Objective, RenderSettings, full_objective, geometry_objective, needs_rendering
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.training import sharding
from sheap_jax.training.state import Optimizers, Params, TrainState
from sheap_jax.types import Batch, PrototypeState


class StepReport(NamedTuple):
    """What the host reads later. The same on every device and process."""

    metrics: dict[str, Float[Array, ""]]
    records: Int[Array, "b 2"]  # of the whole batch, in the order of the next two
    sound: Bool[Array, "b"]  # which pairs came with finite pictures and landmarks
    finite: Bool[Array, "b"]  # which pairs gave finite numbers
    applied: Bool[Array, ""]  # False: something was not finite or the loss exploded, the state was left as it was
    overflow: Int[Array, "2"] | None = None  # most entries of one image, surfels and mesh, that found no room


class Pass(NamedTuple):
    """Forward and backward pass of a batch: means over the batch, and values of each pair.

    On one device of several, `loss` and `gradient` are its shares, which sum to those of the batch.
    """

    loss: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    gradient: Params  # of the networks that learn
    finite: Bool[Array, "b"]
    opacities: Float[Array, "b n"] | None  # None when nothing is rendered, as the next one
    screen_gradient: Float[Array, "b n 2"] | None
    overflow: Int[Array, "b 2"] | None


Step = Callable[..., tuple[TrainState, StepReport]]  # of state, assets, batch and, if there is one, the loss limit


def make_step(
    networks: Networks,
    optimizers: Optimizers,
    weights: LossWeights,
    settings: RenderSettings,
    *,
    rendered: bool,
    accumulate: int = 1,
    shardings: TrainState | None = None,
) -> Step:
    """The jitted step, with the target rendered or (`rendered=False`) from landmarks alone.

    Without rendering only the estimator learns: the regressor and its schedule wait. Nothing is rendered either where
    no rendered term has a weight: the picture would cost most of the step's time and teach nothing.

    A step whose loss or gradient is not finite, or whose loss is above the limit given, leaves parameters, optimiser
    and prototypes untouched and reports it.

    Args:
        accumulate: parts of the batch that are computed one after another, for the memory of one.
        shardings: of the state, where there is a mesh (sharding.state_shardings).
    """
    rendered = rendered and needs_rendering(weights, networks)
    mesh = sharding.mesh_of(shardings)
    axes = () if mesh is None else sharding.AXES
    cut = None if shardings is None else shardings.params

    def both_ways(params: Params, prototypes: PrototypeState, assets: Assets, batch: Batch) -> Pass:
        """On one device's share of the batch, up to the sums over all devices."""
        whole = sharding.gather(params, cut)

        def pass_of(part: Batch) -> Pass:
            if not rendered:
                return _geometry_pass(whole, networks, assets, part, weights, settings.size, axes)
            return _full_pass(whole, prototypes, networks, assets, part, weights, settings=settings, axes=axes)

        done = _accumulate(pass_of, batch, accumulate)
        return done._replace(loss=over_devices(done.loss, axes), gradient=sharding.reduce(done.gradient, cut))

    def step(
        state: TrainState, assets: Assets, batch: Batch, loss_limit: Float[Array, ""] | float = jnp.inf
    ) -> tuple[TrainState, StepReport]:
        trained = list(state.params) if rendered else ["estimator"]
        gradient = None if cut is None else {name: sharding.specs(cut[name]) for name in trained}
        run = sharding.on_devices(
            both_ways,
            mesh,
            in_specs=(sharding.specs(cut), P(), P(), P(axes)),
            out_specs=Pass(P(), P(), gradient, P(axes), P(axes), P(axes), P(axes)),  # pyright: ignore[reportArgumentType]
        )
        done = run(state.params, state.prototypes, assets, batch)
        prototypes = state.prototypes
        if done.opacities is not None and done.screen_gradient is not None:
            prototypes = prototype_rules.update_statistics(prototypes, done.opacities, done.screen_gradient)
        params, opt_state = dict(state.params), dict(state.opt_state)
        for name, own in done.gradient.items():
            with jax.named_scope("optimizer"):
                updates, opt_state[name] = optimizers[name].update(own, state.opt_state[name], state.params[name])
                params[name] = optax.apply_updates(state.params[name], updates)
        norms = {f"gradient_norm/{name}": optax.global_norm(own) for name, own in done.gradient.items()}
        sound = _finite_rows(batch)
        applied = jnp.isfinite(jnp.stack([done.loss, *norms.values()])).all() & sound.all() & (done.loss <= loss_limit)
        proposed = dataclasses.replace(state, params=params, opt_state=opt_state, prototypes=prototypes)
        state = dataclasses.replace(_keep_unless(applied, proposed, state), step=state.step + 1)
        metrics = {"loss": done.loss} | {f"loss/{name}": value for name, value in done.terms.items()} | norms
        overflow = None
        if done.overflow is not None:
            overflow = jnp.max(done.overflow, axis=0)
            total = jnp.sum(done.overflow.astype(jnp.float32), axis=0)
            metrics |= {"overflow/surfels": total[0], "overflow/mesh": total[1]}
        return state, StepReport(metrics, batch.record, sound, done.finite, applied, overflow)

    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))


def _full_pass(
    params: Params,
    prototypes: PrototypeState,
    networks: Networks,
    assets: Assets,
    batch: Batch,
    weights: LossWeights,
    *,
    settings: RenderSettings,
    axes: tuple[str, ...],
) -> Pass:
    # The barrier keeps XLA from folding constants over five million zeros, which takes half a minute.
    shape = (batch.source.image.shape[0], prototypes.parent_face.shape[0], 2)
    probe = jax.lax.optimization_barrier(jnp.zeros(shape, jnp.float32))
    differentiate = jax.value_and_grad(full_objective, argnums=(0, 1), has_aux=True)
    (loss, objective), (gradient, probe_gradient) = differentiate(
        params, probe, networks, assets, prototypes, batch, weights, settings, axes
    )
    return _pass(loss, objective, gradient, probe_gradient)


def _geometry_pass(
    params: Params, networks: Networks, assets: Assets, batch: Batch, weights: LossWeights, size: int, axes: tuple
) -> Pass:
    differentiate = jax.value_and_grad(geometry_objective, has_aux=True)
    trained = {"estimator": params["estimator"]}
    (loss, objective), gradient = differentiate(trained, networks, assets, batch, weights, size, axes)
    return _pass(loss, objective, gradient, None)


def _pass(loss: Float[Array, ""], objective: Objective, gradient: Params, probe_gradient: Any) -> Pass:
    return Pass(
        loss, objective.terms, gradient, objective.finite, objective.opacities, probe_gradient, objective.overflow
    )


def _accumulate(pass_of: Callable[[Batch], Pass], batch: Batch, parts: int) -> Pass:
    """The pass over the whole batch, as the mean of the passes over its parts.

    A part takes every `parts`-th pair: each device then splits its own share, and nothing moves between devices. Terms
    that are averaged under a mask are averaged within each part, then over the parts.
    """
    if parts == 1:
        return pass_of(batch)
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def body(total: tuple, part: Batch) -> tuple[tuple, tuple]:
        done = pass_of(part)
        return jax.tree.map(jnp.add, total, tuple(done[:3])), tuple(done[3:])

    shapes = jax.eval_shape(pass_of, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tuple(shapes[:3]))
    total, rows = jax.lax.scan(body, zeros, split)
    loss, terms, gradient = jax.tree.map(lambda x: x / parts, total)
    finite, opacities, probe, overflow = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), rows)
    # Each part's loss is a mean over fewer pairs: a pair weighs more in it than in the whole.
    return Pass(loss, terms, gradient, finite, opacities, None if probe is None else probe / parts, overflow)


def _finite_rows(batch: Batch) -> Bool[Array, "b"]:
    """Which pairs of the data hold neither NaN nor infinity."""
    rows = [jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in (*batch.source, *batch.target)]
    return jnp.stack(rows).all(axis=0)


def _keep_unless(applied: Bool[Array, ""], proposed: TrainState, state: TrainState) -> TrainState:
    """`proposed` where `applied`, else `state`. The key never changes within a step."""
    kept = jax.tree.map(
        lambda new, old: jnp.where(applied, new, old),
        (proposed.params, proposed.opt_state, proposed.prototypes),
        (state.params, state.opt_state, state.prototypes),
    )
    return dataclasses.replace(state, params=kept[0], opt_state=kept[1], prototypes=kept[2])
