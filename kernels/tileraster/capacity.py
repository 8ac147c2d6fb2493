"""How many (tile, primitive) entries to make room for: `max_intersections`, measured on scenes like those to come."""

import typing
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tileraster import validation
from tileraster.backends import compositor_of
from tileraster.splats.ellipsoids import ellipsoid_boxes, project_ellipsoids
from tileraster.splats.projection import project_surfels
from tileraster.tiling.binning import TileGrid, default_capacity, round_up_capacity, tile_rectangles
from tileraster.types import SplatInputs

Primitive = Literal["surfels", "ellipsoids", "mesh"]
PRIMITIVES = typing.get_args(Primitive)


def measure_capacity(
    means: Float[Array, "*b n 3"],
    quats: Float[Array, "*b n 4"],
    scales: Float[Array, "*b n k"],
    opacities: Float[Array, "*b n"],
    viewmats: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    *,
    width: int,
    height: int,
    near: float = 0.01,
    implementation: str | None = None,
    headroom: float = 1.5,
) -> int:
    """The `max_intersections` that holds sample scenes with room to spare, to be used for all calls.

    Args: as in `rasterize_surfels` (scales with two columns) or `rasterize_ellipsoids` (three); entries are counted on
    the tiles of the implementation. `headroom` multiplies those of the fullest image before rounding up.

    Raises:
        TypeError, ValueError: an argument has the wrong dtype or shape, the implementation does not run on this device
            or has no tiles; the message names it.
    """
    arrays = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities,
        "viewmats": viewmats, "intrinsics": intrinsics,
    }  # fmt: skip
    kinds = jnp.shape(scales)[-1:]
    if kinds not in ((2,), (3,)):
        raise ValueError(
            f"scales: got shape {jnp.shape(scales)}, wanted [*B, N, 2] (surfels) or [*B, N, 3] (ellipsoids)"
        )
    specs = {
        "means": ("N", 3), "quats": ("N", 4), "scales": ("N", *kinds), "opacities": ("N",),
        "viewmats": (4, 4), "intrinsics": (3, 3),
    }  # fmt: skip
    batch = validation.check_arrays(arrays, specs)
    validation.check_size(width=width, height=height)
    chosen = validation.choose_implementation(implementation, means.dtype)
    if chosen == "reference":
        raise ValueError("implementation: 'reference' has no tiles and needs no capacity")
    flat = {name: jnp.reshape(value, (-1, *jnp.shape(value)[len(batch) :])) for name, value in arrays.items()}
    zeros = {"colors": (*flat["opacities"].shape, 1), "background": (len(flat["means"]), 1)}
    unused = {name: jnp.zeros(shape, means.dtype) for name, shape in zeros.items()}
    unused["screen_probe"] = jnp.zeros((*flat["opacities"].shape, 2), means.dtype)
    inputs = SplatInputs(**flat, **unused)
    if kinds == (2,):
        boxes = project_surfels(inputs, near=near).boxes
    else:
        boxes = ellipsoid_boxes(project_ellipsoids(inputs, width=width, height=height, near=near))
    extent = tile_rectangles(boxes, TileGrid(width=width, height=height, tile=compositor_of(chosen).tile)).extent
    # On the host in 64 bits: the sum may exceed what the device's integers hold.
    entries = np.asarray(jax.device_get(extent), np.int64).prod(axis=-1).sum(axis=-1)
    return round_up_capacity(int(np.ceil(headroom * entries.max(initial=1))))


def initial_capacity(
    primitive: Primitive, count: int, *, width: int, height: int, implementation: str | None = None
) -> int | None:
    """The `max_intersections` that None stands for, to grow from; None where there is no list that could grow.

    Args:
        primitive: "surfels", "ellipsoids" or "mesh".
        count: of the primitives in an image (faces of a mesh).
        width, height, implementation: as in the calls to come, of float32 arrays.

    Raises:
        ValueError: there is no such primitive, or the implementation does not run on this device.
    """
    if primitive not in PRIMITIVES:
        raise ValueError(f"primitive: got {primitive!r}, wanted one of {', '.join(PRIMITIVES)}")
    validation.check_size(width=width, height=height)
    chosen = validation.choose_implementation(implementation, jnp.float32, on_gpu=primitive != "mesh")
    if chosen == "reference" or (primitive == "mesh" and not chosen.startswith("pallas_tpu")):
        return None
    return default_capacity(count, TileGrid(width=width, height=height, tile=compositor_of(chosen).tile))


def grow_capacity(max_intersections: int, overflow: Int[Array | np.ndarray, "*b"]) -> int:
    """The next `max_intersections` after images with this `overflow`: enough for them, unchanged if all were complete.

    Shapes depend on it, so that a larger one compiles anew: it is a power of two, to grow seldom.
    """
    validation.check_capacity(max_intersections)
    missing = int(np.asarray(overflow).max(initial=0))
    return 1 << (max_intersections + missing - 1).bit_length() if missing else max_intersections
