"""The one place where losses are masked, weighed and summed.

The other files of this folder return one value per pixel, landmark or surfel. A `LossTerm` joins such values with the
mask that says which of them count and the weight of the whole term; `weigh` gives the scalar that is differentiated.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

T = TypeVar("T")


class LossTerm(NamedTuple):
    """Unreduced values of one loss."""

    values: Float[Array, "..."]
    weight: float | Float[Array, ""]
    mask: Float[Array, "..."] | Bool[Array, "..."] | None = None  # broadcast against values; None counts everything


class WeighedLoss(NamedTuple):
    """The loss to minimise and, for the logs, each term's mean before its weight; with `axes`, shares of them."""

    total: Float[Array, ""]
    means: dict[str, Float[Array, ""]]


def masked_mean(
    values: Float[Array, "..."], mask: Float[Array, "..."] | Bool[Array, "..."] | None, *, axes: tuple[str, ...] = ()
) -> Float[Array, ""]:
    """Mean over the batch and all else, weighed by `mask`; zero where the mask has no weight at all.

    Values under a zero mask never count, also when they are NaN. NaN elsewhere reaches the result: a broken record must
    stop the training, not vanish. The mean is over the whole batch, not per image: an image where nothing is visible
    then has no influence instead of a division by zero, and the result does not depend on how devices share the batch.

    On a device of a mesh (inside jax.shard_map) with these `axes` it is the device's share of that mean: shares sum to
    the mean over all devices, and so do their gradients.
    """
    values = jnp.asarray(values)
    if mask is None:
        return jnp.mean(values) / (jax.lax.psum(1, axes) if axes else 1)
    weights = jnp.broadcast_to(jnp.asarray(mask).astype(values.dtype), values.shape)
    weighed = jnp.sum(jnp.where(weights != 0, values, 0.0) * weights)
    total = jax.lax.stop_gradient(jnp.sum(weights))
    if axes:
        total = jax.lax.psum(total, axes)
    return jnp.where(total > 0, weighed / jnp.where(total > 0, total, 1.0), 0.0)


def weigh(terms: Mapping[str, LossTerm], *, axes: tuple[str, ...] = ()) -> WeighedLoss:
    """Sum of weight x masked mean over the named terms; `axes` as in `masked_mean`."""
    means = {name: masked_mean(term.values, term.mask, axes=axes) for name, term in terms.items()}
    total = jnp.zeros((), jnp.float32)
    for name, term in terms.items():
        total = total + term.weight * means[name]
    return WeighedLoss(total=total, means=means)


def over_devices(tree: T, axes: tuple[str, ...]) -> T:
    """On a device of a mesh: the sum of everybody's shares over `axes`; without axes the tree as it is."""
    return jax.lax.psum(tree, axes) if axes else tree
