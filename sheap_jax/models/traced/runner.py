"""Runs a `Program` in JAX. Under jit, the sizes of images and batch are those of the call."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

from sheap_jax.models.traced.attention import ATTENTION
from sheap_jax.models.traced.elementwise import ELEMENTWISE
from sheap_jax.models.traced.layers import LAYERS
from sheap_jax.models.traced.making import MAKING
from sheap_jax.models.traced.program import INPUT, Argument, Program, StepResult, Weight
from sheap_jax.models.traced.reductions import REDUCTIONS
from sheap_jax.models.traced.resizing import RESIZING
from sheap_jax.models.traced.shapes import SHAPES

OPERATIONS: dict[str, Callable[..., Any]] = {
    **ELEMENTWISE, **REDUCTIONS, **SHAPES, **MAKING, **LAYERS, **ATTENTION, **RESIZING
}  # fmt: skip


def run_program(
    program: Program, weights: Mapping[str, Array], images: Float[Array, "n 3 h w"]
) -> dict[str, Float[Array, "n ..."]]:
    """The program's named outputs for a batch of any size, in full single precision on every device.

    Raises ValueError, naming the operation, for arguments that are not supported.
    """
    values: dict[int, Any] = {INPUT: images}

    def value_of(argument: Argument) -> Any:
        if isinstance(argument, StepResult):
            return values[argument.number]
        if isinstance(argument, Weight):
            return weights[argument.name]
        return [value_of(item) for item in argument] if isinstance(argument, list) else argument

    with jax.default_matmul_precision("highest"):
        for step in program.steps:
            arguments = {name: value_of(argument) for name, argument in step.arguments.items()}
            counted = [value for name, value in arguments.items() if name.isdigit()]
            named = {name: value for name, value in arguments.items() if not name.isdigit()}
            try:
                found = OPERATIONS[step.operation](*counted, **named)
            except (TypeError, NotImplementedError, ValueError) as error:
                raise ValueError(f"{step.operation}: {error}") from error
            results = [found] if len(step.results) == 1 else found
            values |= dict(zip(step.results, results, strict=True))
        return {name: value_of(argument) for name, argument in program.outputs.items()}
