"""tileraster: differentiable tile rasterisers for JAX, with reproducible gradients."""

from tileraster.api import rasterize_ellipsoids, rasterize_mesh, rasterize_surfels
from tileraster.capacity import grow_capacity, initial_capacity, measure_capacity
from tileraster.types import EllipsoidImage, MeshImage, SurfelImage

__all__ = [
    "EllipsoidImage",
    "MeshImage",
    "SurfelImage",
    "grow_capacity",
    "initial_capacity",
    "measure_capacity",
    "rasterize_ellipsoids",
    "rasterize_mesh",
    "rasterize_surfels",
]

__version__ = "0.1.0"
