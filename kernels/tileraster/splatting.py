"""What surfels and ellipsoids have in common: check a call, choose an implementation, run it."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tileraster import validation
from tileraster.backends import compositor_of
from tileraster.nan_inputs import nan_where_input_is
from tileraster.splats.ellipsoids import render_ellipsoids_tiled
from tileraster.splats.reference_ellipsoids import render_ellipsoids_reference
from tileraster.splats.reference_surfels import render_surfels_reference
from tileraster.splats.surfels import render_surfels_tiled
from tileraster.types import SplatInputs


def splat(
    primitive: str,
    arrays: dict[str, Array | None],
    *,
    width: int,
    height: int,
    near: float,
    implementation: str | None,
    max_intersections: int | None,
) -> Any:
    """Check a call, fill in what was left out, run it on one batch axis."""
    scales = {"surfels": 2, "ellipsoids": 3}[primitive]
    batch = validation.check_arrays(arrays, {**_SPLAT_SPECS, "scales": ("N", scales)})
    means, colors = arrays["means"], arrays["colors"]
    assert means is not None
    assert colors is not None
    count, channels = colors.shape[-2:]
    validation.check_size(width=width, height=height, channels=channels)
    validation.check_capacity(max_intersections)
    given = tuple(name for name, value in arrays.items() if value is not None)
    if arrays["background"] is None:
        arrays["background"] = jnp.zeros((*batch, channels), colors.dtype)
    if arrays["screen_probe"] is None:
        arrays["screen_probe"] = jnp.zeros((*batch, count, 2), means.dtype)
    image = _render_splats(
        SplatInputs(**{name: flatten(value, batch) for name, value in arrays.items() if value is not None}),
        primitive,
        given=given,
        width=width,
        height=height,
        near=float(near),
        implementation=validation.choose_implementation(implementation, means.dtype),
        max_intersections=max_intersections,
    )
    return jax.tree.map(lambda value: value.reshape(batch + value.shape[1:]), image)


_SPLAT_SPECS = {
    "means": ("N", 3), "quats": ("N", 4), "opacities": ("N",), "colors": ("N", "C"),
    "viewmats": (4, 4), "intrinsics": (3, 3), "background": ("C",), "screen_probe": ("N", 2),
}  # fmt: skip


# One compiled program per shape, also for calls outside jit.
@functools.partial(
    jax.jit, static_argnames=("primitive", "given", "width", "height", "near", "implementation", "max_intersections")
)
def _render_splats(
    inputs: SplatInputs,
    primitive: str,
    *,
    given: tuple[str, ...],
    width: int,
    height: int,
    near: float,
    implementation: str,
    max_intersections: int | None,
) -> Any:
    """The image of either primitive, NaN where a given input is: XLA takes long to look through its own zeros."""
    nan_or_zero = nan_where_input_is(*(getattr(inputs, name) for name in given))
    if inputs.opacities.shape[1] == 0:
        inputs = _with_one_invisible(inputs)
    size: dict[str, Any] = {"width": width, "height": height, "near": near}
    reference, tiled = _RENDERERS[primitive]
    if implementation == "reference":
        image = reference(inputs, **size)
    else:
        image = tiled(inputs, **size, max_intersections=max_intersections, compositor=compositor_of(implementation))
    marked = {
        name: value + nan_or_zero.reshape(-1, *(1,) * (value.ndim - 1))
        for name, value in image._asdict().items()
        if name != "overflow"
    }
    return image._replace(**marked)


_RENDERERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "surfels": (render_surfels_reference, render_surfels_tiled),
    "ellipsoids": (render_ellipsoids_reference, render_ellipsoids_tiled),
}


def _with_one_invisible(inputs: SplatInputs) -> SplatInputs:
    """Empty axes cannot be sorted or gathered from; opacity 0 draws nothing."""
    cameras = ("viewmats", "intrinsics", "background")
    padded = {
        name: jnp.pad(value, ((0, 0), (0, 1)) + ((0, 0),) * (value.ndim - 2))
        for name, value in inputs._asdict().items()
        if name not in cameras
    }
    return inputs._replace(**padded)


def flatten(array: Array, batch: tuple[int, ...]) -> Array:
    """One leading axis in the place of all batch axes."""
    return jnp.reshape(array, (math.prod(batch), *jnp.shape(array)[len(batch) :]))
