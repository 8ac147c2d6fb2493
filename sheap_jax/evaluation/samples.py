"""The picture of an evaluation: source | target | re-animated | mesh on the target | normals of the mesh."""

from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from tileraster import MeshImage

from sheap_jax.files.pictures import reanimation_grid
from sheap_jax.geometry import official_camera
from sheap_jax.method.rendering import render_mesh
from sheap_jax.morphable import MorphableModel, forward
from sheap_jax.types import HeadParams


def sample_grid(
    model: MorphableModel,
    params: HeadParams,
    pairs: Int[np.ndarray, "p 2"],
    images: Float[np.ndarray, "n h w 3"],
    rendered: Float[np.ndarray, "p h w 3"],
) -> UInt8[np.ndarray, "y x 3"]:
    """One row for each pair of records.

    Args:
        model: morphable model of the predictions.
        params: predictions of all N images. The mesh has the source's shape, and the rest from the target.
        pairs: (source, target) records.
        images: all images, square.
        rendered: the re-animation of each pair.
    """
    source, target = pairs.T
    driven = HeadParams(*(value[target] for value in params))._replace(shape=params.shape[source])
    mesh = _render(model, driven, images.shape[2])
    return reanimation_grid(images[source], images[target], rendered, np.asarray(mesh.normal), np.asarray(mesh.mask))


def spread(length: int, count: int) -> Int[np.ndarray, "k"]:
    """At most `count` places spread evenly over `length`: which pairs the picture shows."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))


@partial(jax.jit, static_argnames="size")
def _render(model: MorphableModel, params: HeadParams, size: int) -> MeshImage:
    return render_mesh(forward(model, params), model.faces, official_camera(size), width=size, height=size)
