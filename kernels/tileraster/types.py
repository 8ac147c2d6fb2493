"""What rasterisers take and return. `*b` are leading batch axes, H x W the image, C the number of colour channels."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class SurfelImage(NamedTuple):
    """Composited surfels (2D Gaussians). All but `median_depth` and `overflow` are differentiable."""

    color: Float[Array, "*b h w c"]  # sum of w * colour, plus the background seen through what is left
    alpha: Float[Array, "*b h w"]  # sum of w = 1 - remaining transmittance
    depth: Float[Array, "*b h w"]  # sum of w * z; expected depth is depth / alpha
    median_depth: Float[Array, "*b h w"]  # z of the last surfel in front of which more than half the light passes
    normal: Float[Array, "*b h w 3"]  # sum of w * n, camera space, facing the camera, not normalised
    distortion: Float[Array, "*b h w"]  # sum over pairs of w_i w_j (m_i - m_j)^2, see `rasterize_surfels`
    overflow: Int[Array, "*b"]  # (tile, surfel) entries that did not fit `max_intersections`; 0 is a complete image


class EllipsoidImage(NamedTuple):
    """Composited ellipsoids (3D Gaussians). `depth` uses the depth of the centre."""

    color: Float[Array, "*b h w c"]
    alpha: Float[Array, "*b h w"]
    depth: Float[Array, "*b h w"]
    median_depth: Float[Array, "*b h w"]
    overflow: Int[Array, "*b"]


class MeshImage(NamedTuple):
    """Nearest triangle at every pixel centre. `depth`, `normal` and `barycentric` are differentiable."""

    depth: Float[Array, "*b h w"]  # z of the hit in camera space, 0 where there is none
    normal: Float[Array, "*b h w 3"]  # unit geometric normal, camera space, facing the camera; 0 where none
    face_index: Int[Array, "*b h w"]  # -1 where none
    barycentric: Float[Array, "*b h w 3"]  # weights of the face's three vertices (perspective-correct); 0 where none
    mask: Bool[Array, "*b h w"]
    overflow: Int[Array, "*b"]  # (pixel, face) candidates that were not tested; 0 is a complete image


class SplatInputs(NamedTuple):
    """The arguments of `rasterize_surfels` (k = 2) or `rasterize_ellipsoids` (k = 3) for one batch axis, or none."""

    means: Float[Array, "*b n 3"]
    quats: Float[Array, "*b n 4"]
    scales: Float[Array, "*b n k"]
    opacities: Float[Array, "*b n"]
    colors: Float[Array, "*b n c"]
    viewmats: Float[Array, "*b 4 4"]
    intrinsics: Float[Array, "*b 3 3"]
    background: Float[Array, "*b c"]
    screen_probe: Float[Array, "*b n 2"]
