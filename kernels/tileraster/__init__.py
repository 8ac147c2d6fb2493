"""tileraster: differentiable tile rasterisers for JAX, with reproducible gradients."""

from tileraster.api import rasterize_mesh
from tileraster.types import EllipsoidImage, MeshImage, SurfelImage

__all__ = ["EllipsoidImage", "MeshImage", "SurfelImage", "rasterize_mesh"]
