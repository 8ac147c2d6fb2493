"""tileraster: differentiable tile rasterisers for JAX, with reproducible gradients."""

from tileraster.api import rasterize_mesh, rasterize_surfels
from tileraster.types import EllipsoidImage, MeshImage, SurfelImage

__all__ = ["EllipsoidImage", "MeshImage", "SurfelImage", "rasterize_mesh", "rasterize_surfels"]
