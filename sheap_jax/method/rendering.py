"""The one place where the rasteriser meets the model. On several devices each draws its share of a batch
(training/sharding.py, `on_devices`): XLA cannot split a kernel that is written by hand.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import tileraster
from jaxtyping import Array, Float, Int
from tileraster import EllipsoidImage, MeshImage, SurfelImage

from sheap_jax.types import Camera, Surfels

Primitive = Literal["surfels", "ellipsoids"]

# Axes that have a size: a surfel is flat, an ellipsoid (3D Gaussian, for the ablation) uses the third scale as well.
SCALED_AXES: dict[Primitive, int] = {"surfels": 2, "ellipsoids": 3}


@jax.named_scope("surfels")
def render_surfels(
    surfels: Surfels,
    colors: Float[Array, "b n c"],
    camera: Camera,
    *,
    width: int,
    height: int,
    background: Float[Array, "b c"] | None = None,
    implementation: str | None = None,
    max_intersections: int | None = None,
    primitive: Primitive = "surfels",
    screen_probe: Float[Array, "b n 2"] | None = None,
) -> SurfelImage | EllipsoidImage:
    """Images of lit surfels.

    Args:
        surfels: in the world, one set per image.
        colors: albedo x shading, or any other channels to composite.
        camera: one for all images, or one each.
        background: colour behind the surfels; None is black.
        implementation, max_intersections: of tileraster.rasterize_surfels.
        primitive: what a Gaussian is drawn as. An ellipsoid's normal stays the third axis, which the binding lays along
            the triangle's: the shortest axis, the other usual choice, would jump when two lengths cross.
        screen_probe: zeros; the loss gradient with respect to them is that of the surfels' screen positions, in
            pixels, by which prototypes are densified.
    """
    if primitive not in SCALED_AXES:
        raise ValueError(f"the primitive is {primitive!r}, it must be one of {', '.join(SCALED_AXES)}")
    draw = tileraster.rasterize_surfels if primitive == "surfels" else tileraster.rasterize_ellipsoids
    batch = colors.shape[0]
    camera = _per_image(camera, batch)
    if background is None:
        background = jnp.zeros((batch, colors.shape[-1]), colors.dtype)
    if screen_probe is None:
        screen_probe = jnp.zeros((*colors.shape[:2], 2), colors.dtype)

    return draw(
        surfels.means,
        surfels.quats,
        surfels.scales[..., : SCALED_AXES[primitive]],
        surfels.opacities,
        colors,
        *camera,
        width=width,
        height=height,
        background=background,
        screen_probe=screen_probe,
        implementation=implementation,
        max_intersections=max_intersections,
    )


@jax.named_scope("z_buffer")
def render_mesh(
    vertices: Float[Array, "b v 3"],
    faces: Int[Array, "f 3"],
    camera: Camera,
    *,
    width: int,
    height: int,
    implementation: str | None = None,
    max_intersections: int | None = None,
) -> MeshImage:
    """Depth, normals and face indices of meshes; arguments as for `render_surfels`, the last of rasterize_mesh."""
    return tileraster.rasterize_mesh(
        vertices,
        faces,
        *_per_image(camera, vertices.shape[0]),
        width=width,
        height=height,
        implementation=_of_meshes(implementation),
        max_intersections=max_intersections,
    )


class Capacities(NamedTuple):
    """The `max_intersections` of both; None: there is no list that could grow."""

    surfels: int | None
    mesh: int | None


def initial_capacities(
    surfels: int, faces: int, *, size: int, implementation: str | None, primitive: Primitive
) -> Capacities:
    """What the rasteriser makes room for by default, for so many surfels and faces in images of `size` pixels."""
    square = {"width": size, "height": size}
    return Capacities(
        tileraster.initial_capacity(primitive, surfels, **square, implementation=implementation),
        tileraster.initial_capacity("mesh", faces, **square, implementation=_of_meshes(implementation)),
    )


def _of_meshes(implementation: str | None) -> str | None:
    """The GPU's kernels draw no triangles: for them the default of the device is taken."""
    of_gpu = implementation is not None and implementation.startswith("pallas_gpu")
    return None if of_gpu else implementation


def _per_image(camera: Camera, batch: int) -> Camera:
    """The camera with a batch axis."""
    return Camera(
        viewmat=jnp.broadcast_to(camera.viewmat, (batch, 4, 4)),
        intrinsics=jnp.broadcast_to(camera.intrinsics, (batch, 3, 3)),
    )
