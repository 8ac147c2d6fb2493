"""Distance from people's true shape. No loss of the method: it shows how much the method could learn at most.

Only generated people have a true shape. `configs/ablations/supervised.py` trains with this term. docs/results.md says
which share of its gain pictures and landmarks reach without it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class TrueShapes(NamedTuple):
    """Constant arrays of the term."""

    shapes: Float[Array, "r s"]  # true identity coefficients of the person in each record of the training split
    normal_modes: Float[Array, "s f"]  # what a unit of each coefficient moves the face along its normal, millimetres


def true_shape_error(
    predicted: Float[Array, "b s"], records: Int[Array, "b"], truth: TrueShapes
) -> Float[Array, "b f"]:
    """Squared distance of each vertex of the face along its normal, in square millimetres.

    Distances between surfaces see this part alone. A mirrored pair keeps the truth of its person, as the modes are
    symmetric: all of the generated heads', and those with 98 % of the variance in the ICT model.

    Args:
        predicted: identity coefficients.
        records: of the pictures that they were predicted from.
    """
    return jnp.square((predicted - truth.shapes[records]) @ truth.normal_modes)
