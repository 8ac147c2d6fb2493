"""What the camera sees at each pixel: the z-buffer's faces and everything interpolated over them.

Solid things and hair are two layers, because hair is partly transparent. Both come from one call of the rasteriser:
in one half of the batch the hair collapses to a point, in the other half everything else.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import tileraster
from jaxtyping import Array, Bool, Float, Int

from sheap_jax.data.embedded import chart
from sheap_jax.data.embedded.clothes import TEXTURE_SIZE as CLOTH_SIZE
from sheap_jax.data.embedded.hair import TEXTURE_SIZE as HAIR_SIZE
from sheap_jax.data.embedded.illumination import irradiance, shadow
from sheap_jax.data.embedded.light_and_backdrop import DistantLights
from sheap_jax.data.embedded.scene_meshes import EYE, SceneMeshes
from sheap_jax.geometry import normalize, official_camera

EYE_AXIS = 0.012  # metres, radius of the eyeball to which iris and pupil are scaled


class Posed(NamedTuple):
    """Frames of one clip in the space of the official camera."""

    solid: Float[Array, "b v 3"]
    hair: Float[Array, "b h 3"]
    head_rotation: Float[Array, "b 3 3"]  # of the skull: the light is turned into its frame to look up shadows


class Layer(NamedTuple):
    """What the rasteriser saw, per pixel of the supersampled image."""

    mask: Bool[Array, "b h w"]
    depth: Float[Array, "b h w"]  # metres from the camera, infinite where there is nothing
    normal: Float[Array, "b h w 3"]  # world, interpolated, unit length
    facing: Float[Array, "b h w"]  # cosine to the viewer, negative where the inside is seen
    irradiance: Float[Array, "b h w 3"]
    coordinates: Float[Array, "b h w c"]  # what they mean depends on the layer
    face: Int[Array, "b h w"]
    kind: Int[Array, "b h w"]  # see scene_meshes.py; -1 where there is nothing


@functools.partial(jax.jit, static_argnames="size")
def rasterize_layers(
    meshes: SceneMeshes, posed: Posed, strand: Float[Array, "h 4"], lights: DistantLights, *, size: int
) -> tuple[Layer, Layer]:
    """The solid layer and the hair layer.

    Coordinates of the solid layer: see `_solid_coordinates`. Of the hair: texels round the crown and along the
    strand, and the distance to the edge of the hair in metres.
    """
    batch, solid_count = posed.solid.shape[:2]
    hair_faces = meshes.hair_faces + solid_count
    faces = jnp.concatenate([meshes.solid_faces, hair_faces, hair_faces[:, ::-1]])  # hair is seen from both sides
    vertices = jnp.concatenate([posed.solid, posed.hair], axis=1)
    normals = vertex_normals(vertices, faces[: len(meshes.solid_faces) + len(hair_faces)])
    lit = jnp.maximum(irradiance(lights, normals), 0.02)
    shaded = shadow(meshes, posed.head_rotation, lights)
    lit = lit.at[:, : shaded.shape[1]].multiply(shaded)
    coordinates = jnp.concatenate([jnp.pad(meshes.solid_coordinates, ((0, 0), (0, 1))), strand])
    carried = jnp.concatenate([normals, lit, jnp.broadcast_to(coordinates, (*normals.shape[:2], 4)), vertices], axis=-1)

    is_solid = (jnp.arange(vertices.shape[1]) < solid_count)[:, None]
    shown = jnp.concatenate([jnp.where(is_solid, vertices, 0.0), jnp.where(is_solid, 0.0, vertices)])
    both = _interpolate(shown, faces, jnp.concatenate([carried, carried]), size=size)
    solid = Layer(*(value[:batch] for value in both))
    hair = Layer(*(value[batch:] for value in both))
    kind = jnp.where(solid.mask, meshes.solid_kind[jnp.minimum(solid.face, len(meshes.solid_faces) - 1)], -1)
    solid = solid._replace(kind=kind, coordinates=_solid_coordinates(meshes, solid.coordinates, kind))
    cosine, sine, along, inside = jnp.moveaxis(hair.coordinates, -1, 0)
    around = (jnp.arctan2(sine, cosine) / (2 * jnp.pi) + 0.5) * HAIR_SIZE
    return solid, hair._replace(coordinates=jnp.stack([around, along * HAIR_SIZE, inside], axis=-1))


def _interpolate(
    vertices: Float[Array, "b v 3"], faces: Int[Array, "f 3"], carried: Float[Array, "b v c"], *, size: int
) -> Layer:
    """Rasterise meshes and interpolate what their vertices carry: normal, irradiance, coordinates, position."""
    batch = vertices.shape[0]
    camera = official_camera(size)

    def one_image(one: Float[Array, "v 3"]) -> tileraster.MeshImage:
        return tileraster.rasterize_mesh(
            one, faces, camera.viewmat, camera.intrinsics, width=size, height=size, cull_backfaces=True
        )

    seen = jax.lax.map(one_image, vertices)  # image by image: the rasteriser's buffers then stay in the cache
    face = jnp.maximum(seen.face_index, 0)
    # Barriers: else XLA repeats a look-up for every channel and every use of its result.
    corners, carried = jax.lax.optimization_barrier((faces[face], carried))
    frame = jnp.arange(batch)[:, None, None]
    values = sum(carried[frame, corners[..., k]] * seen.barycentric[..., k, None] for k in range(3))
    values = jax.lax.optimization_barrier(values)
    normal = normalize(values[..., :3])
    view = normalize(jnp.array([0.0, 0.0, 1.0]) - values[..., -3:])
    return Layer(
        mask=seen.mask,
        depth=jnp.where(seen.mask, seen.depth, jnp.inf),
        normal=normal,
        facing=jnp.sum(normal * view, axis=-1),
        irradiance=values[..., 3:6],
        coordinates=values[..., 6:-3],
        face=face,
        kind=jnp.where(seen.mask, 0, -1),
    )


def _solid_coordinates(
    meshes: SceneMeshes, coordinates: Float[Array, "b h w 3"], kind: Array
) -> Float[Array, "b h w 6"]:
    """Texels of the skin chart (2) and of the garment (2); offset from the eye's axis or place on the teeth (2)."""
    angle = jnp.arctan2(coordinates[..., 0], coordinates[..., 2] - chart.AXIS_Z)
    skin_x = (angle * chart.RADIUS - chart.U_LIMITS[0]) / chart.TEXEL
    skin_y = (chart.V_LIMITS[1] - coordinates[..., 1]) / chart.TEXEL
    center = jnp.where(coordinates[..., :1] < 0, meshes.eye_centers[0], meshes.eye_centers[1])
    off_axis = (coordinates[..., :2] - center[..., :2]) / EYE_AXIS
    detail = jnp.where(kind[..., None] == EYE, off_axis, coordinates[..., :2])
    return jnp.concatenate([skin_x[..., None], skin_y[..., None], coordinates[..., :2] * CLOTH_SIZE, detail], axis=-1)


def vertex_normals(vertices: Float[Array, "b v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "b v 3"]:
    """Area-weighted unit normals."""
    corners = vertices[:, faces]
    normal = jnp.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = jnp.zeros_like(vertices)
    for corner in range(3):
        total = total.at[:, faces[:, corner]].add(normal)
    return normalize(total, epsilon=1e-20)
