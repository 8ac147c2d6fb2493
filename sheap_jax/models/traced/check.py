"""Whether a translated trace computes what torch computes: the same random pictures through both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from sheap_jax.models.traced.program import Program, ProgramWeights
from sheap_jax.models.traced.reader import Trace, TraceError, run_torch
from sheap_jax.models.traced.runner import run_program

TOLERANCE = 2e-4  # of the largest difference, as a share of an output's largest number
_SMALLEST = 1e-3  # outputs with smaller numbers are compared as if they had this one
BATCHES = (1, 3)  # another size than that of the trace is among them, so that none is baked in


class Difference(NamedTuple):
    """Of one output, over all batches."""

    name: str
    shape: tuple[int, ...]  # without the batch
    share: float  # largest difference / largest number


def compare(trace: Trace, *, image_size: int, seed: int = 0) -> list[Difference]:
    """The difference of each output between torch and JAX.

    Raises TraceError if the trace does not take pictures of this size, or batches of any size, or an output is not one
    row for each picture.
    """
    worst: dict[str, Difference] = {}
    for batch in BATCHES:
        images = _pictures(batch, image_size, seed + batch)
        try:
            theirs = run_torch(trace, images)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:160]
            raise TraceError(
                f"torch cannot run the trace on {batch} pictures of {image_size} pixels: {reason}"
            ) from error
        ours = run_fixed(trace.program, trace.weights, images)
        for name, expected in theirs.items():
            if expected.shape[:1] != (batch,) or ours[name].shape != expected.shape:
                raise TraceError(
                    f"the output {name} of {batch} pictures is {expected.shape}, by JAX {ours[name].shape}; expected "
                    "one row for each picture"
                )
            scale = max(float(np.abs(expected).max(initial=0)), _SMALLEST)
            share = float(np.abs(ours[name] - expected).max(initial=0)) / scale
            share = share if np.isfinite(share) else float("inf")
            if name not in worst or worst[name].share < share:
                worst[name] = Difference(name, expected.shape[1:], share)
    return list(worst.values())


def run_fixed(
    program: Program, weights: ProgramWeights, images: Float32[np.ndarray, "n 3 h w"]
) -> dict[str, Float[np.ndarray, "n ..."]]:
    """`run_program` compiled for these pictures. TraceError for what JAX cannot do with sizes that are computed."""
    try:
        found = jax.jit(lambda weights, images: run_program(program, weights, images))(
            {name: jnp.asarray(array) for name, array in weights.items()}, images
        )
    except (jax.errors.JAXTypeError, ValueError) as error:
        raise TraceError(f"the trace cannot be run by JAX: {str(error).strip().splitlines()[0]}") from error
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def report(differences: list[Difference]) -> str:
    """One line for each output."""
    width = max(len(one.name) for one in differences)
    return "\n".join(
        f"{one.name:<{width}}  {'x'.join(map(str, one.shape)) or '1':>7}  largest difference to torch {one.share:.1e} "
        "of the largest number"
        for one in differences
    )


def refuse_differences(differences: list[Difference]) -> None:
    """TraceError if an output differs by more than TOLERANCE."""
    worst = max(differences, key=lambda one: one.share)
    if worst.share > TOLERANCE:
        raise TraceError(
            f"the output {worst.name} differs from torch's by {worst.share:.1e} of its largest number, more than "
            f"{TOLERANCE:.0e}: nothing is written. Please report this"
        )


def _pictures(count: int, size: int, seed: int) -> Float32[np.ndarray, "n 3 s s"]:
    """Random smooth pictures with some noise, in [0, 1]."""
    rng = np.random.default_rng(seed)
    cells = -(-size // 8)
    smooth = rng.uniform(size=(count, 3, cells, cells)).repeat(8, axis=2).repeat(8, axis=3)[..., :size, :size]
    return (0.8 * smooth + 0.2 * rng.uniform(size=smooth.shape)).astype(np.float32)
