"""Pictures of posed people: z-buffer, deferred shading, two layers (solid things, then hair with its own alpha).

Two compiled functions with numpy texture look-ups (cv2.remap) between them, because gathers of colour are what XLA
does slowly on a CPU. All shapes are fixed, so that each function compiles once.
"""

import functools
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import tileraster
from jaxtyping import Array, Bool, Float, Int, UInt8

from sheap_jax.data.embedded import chart
from sheap_jax.data.embedded.clothes import TEXTURE_SIZE as CLOTH_SIZE
from sheap_jax.data.embedded.hair import TEXTURE_SIZE as HAIR_SIZE
from sheap_jax.data.embedded.stage import CLOTH, EYE, MOUTH, TEETH, Stage
from sheap_jax.data.embedded.studio import Light
from sheap_jax.geometry import normalize, official_camera
from sheap_jax.lighting import LAMBERT_FACTORS, sh_basis

EYE_AXIS = 0.012  # metres, radius of the eyeball to which iris and pupil are scaled
TOOTH_WIDTH = 0.0075  # metres
HIGHLIGHTS = 2  # how many of the lights make highlights
IRIS, PUPIL = 0.49, 0.21  # sine of the angle from the eye's axis


class Wardrobe(NamedTuple):
    """Textures and colours of one clip."""

    skin: Float[np.ndarray, "h w 4"]
    hair: Float[np.ndarray, "s s 4"]
    cloth: Float[np.ndarray, "s s 3"]
    iris: Float[np.ndarray, "3"]
    hair_amount: float  # 0: no shell
    backdrop: Float[np.ndarray, "s s 3"]


class Posed(NamedTuple):
    """Frames of one clip in the space of the official camera."""

    solid: Float[Array, "b v 3"]
    hair: Float[Array, "b h 3"]
    head_rotation: Float[Array, "b 3 3"]  # of the skull: the light is turned into its frame to look up shadows


class Layer(NamedTuple):
    """What the rasteriser saw, per pixel of the supersampled image."""

    mask: Bool[Array, "b h w"]
    depth: Float[Array, "b h w"]  # metres from the camera, infinite where there is nothing
    normal: Float[Array, "b h w 3"]  # world, interpolated
    facing: Float[Array, "b h w"]  # cosine to the viewer, negative where the inside is seen
    irradiance: Float[Array, "b h w 3"]
    coordinates: Float[Array, "b h w c"]
    kind: Int[Array, "b h w"]


class Picture(NamedTuple):
    """Finished frames."""

    image: Float[np.ndarray, "b h w 3"]  # sRGB in [0, 1]
    head: Bool[np.ndarray, "b h w"]  # pixels whose centre shows the head (not hair, not clothes)


def render(stage: Stage, posed: Posed, strand: Float[np.ndarray, "h 4"], wardrobe: Wardrobe, light: Light,
           *, size: int, supersampling: float) -> Picture:  # fmt: skip
    """Render the frames of one clip at `size` pixels."""
    wide = round(size * supersampling)
    solid, hair = rasterize_layers(stage, posed, strand, light, size=wide)
    texel = np.asarray(solid.coordinates)
    skin = _look_up(wardrobe.skin, texel[..., :2], cv2.BORDER_REPLICATE)
    cloth = _look_up(wardrobe.cloth, texel[..., 2:4], cv2.BORDER_REPLICATE)
    strands = _look_up(wardrobe.hair, np.asarray(hair.coordinates)[..., :2], cv2.BORDER_WRAP)
    backdrop = cv2.resize(wardrobe.backdrop, (wide, wide), interpolation=cv2.INTER_LINEAR)
    image, head = compose(solid, hair, skin, cloth, strands, backdrop, wardrobe.iris, wardrobe.hair_amount, light)
    shrunk = [_shrink(frame, size) for frame in np.asarray(image)]
    mask = [_shrink(frame.astype(np.float32), size) > 0.5 for frame in np.asarray(head)]
    return Picture(linear_to_srgb(np.stack(shrunk)), np.stack(mask))


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _look_up(texture: np.ndarray, texel: np.ndarray, border: int) -> Float[np.ndarray, "b h w c"]:
    """Bilinear look-up; texel coordinates with the first centre at 0.5."""
    at = texel.astype(np.float32) - 0.5
    return np.stack([cv2.remap(texture, one, None, cv2.INTER_LINEAR, borderMode=border) for one in at])


@functools.partial(jax.jit, static_argnames="size")
def rasterize_layers(
    stage: Stage, posed: Posed, strand: Float[Array, "h 4"], light: Light, *, size: int
) -> tuple[Layer, Layer]:
    """The solid layer and the hair layer. Their coordinates are in texels, see `_solid_coordinates`."""
    batch = posed.solid.shape[0]
    normals = vertex_normals(posed.solid, stage.solid_faces)
    shadow = _shadow(stage, posed.head_rotation, light)
    shadow = jnp.concatenate([shadow, jnp.ones((batch, posed.solid.shape[1] - shadow.shape[1], 3))], axis=1)
    irradiance = jnp.maximum(shade_with(light, normals), 0.02) * shadow
    coordinates = jnp.broadcast_to(stage.solid_coordinates, posed.solid.shape)
    solid, face = _interpolate(
        posed.solid, stage.solid_faces, normals, irradiance, coordinates, size=size, cull_backfaces=True
    )
    kind = jnp.where(solid.mask, stage.solid_kind[face], -1)
    solid = solid._replace(kind=kind, coordinates=_solid_coordinates(stage, solid.coordinates, kind))

    normals = vertex_normals(posed.hair, stage.hair_faces)
    irradiance = jnp.maximum(shade_with(light, normals), 0.03)
    coordinates = jnp.broadcast_to(strand, (batch, *strand.shape))
    hair, _ = _interpolate(
        posed.hair, stage.hair_faces, normals, irradiance, coordinates, size=size, cull_backfaces=False
    )
    cosine, sine, along, inside = jnp.moveaxis(hair.coordinates, -1, 0)
    around = (jnp.arctan2(sine, cosine) / (2 * jnp.pi) + 0.5) * HAIR_SIZE
    return solid, hair._replace(coordinates=jnp.stack([around, along * HAIR_SIZE, inside], axis=-1))


def _interpolate(
    vertices: Float[Array, "b v 3"],
    faces: Int[Array, "f 3"],
    normals: Float[Array, "b v 3"],
    irradiance: Float[Array, "b v 3"],
    coordinates: Float[Array, "b v c"],
    *,
    size: int,
    cull_backfaces: bool,
) -> tuple[Layer, Int[Array, "b h w"]]:
    """Rasterise one mesh and interpolate what its vertices carry."""
    batch = vertices.shape[0]
    camera = official_camera(size)
    viewmats = jnp.broadcast_to(camera.viewmat, (batch, 4, 4))
    intrinsics = jnp.broadcast_to(camera.intrinsics, (batch, 3, 3))
    seen = tileraster.rasterize_mesh(
        vertices, faces, viewmats, intrinsics, width=size, height=size, cull_backfaces=cull_backfaces
    )
    face = jnp.maximum(seen.face_index, 0)
    carried = jnp.concatenate([normals, irradiance, coordinates, vertices], axis=-1)
    frame = jnp.arange(batch)[:, None, None]
    corners = faces[face]
    values = sum(carried[frame, corners[..., k]] * seen.barycentric[..., k, None] for k in range(3))
    normal = normalize(values[..., :3])
    view = normalize(jnp.array([0.0, 0.0, 1.0]) - values[..., -3:])
    layer = Layer(
        mask=seen.mask,
        depth=jnp.where(seen.mask, seen.depth, jnp.inf),
        normal=normal,
        facing=jnp.sum(normal * view, axis=-1),
        irradiance=values[..., 3:6],
        coordinates=values[..., 6:-3],
        kind=face,
    )
    return layer, face


def _solid_coordinates(stage: Stage, coordinates: Float[Array, "b h w 3"], kind: Array) -> Float[Array, "b h w 6"]:
    """Texels of the skin chart (2) and of the garment (2); offset from the eye's axis or place on the teeth (2)."""
    angle = jnp.arctan2(coordinates[..., 0], coordinates[..., 2] - chart.AXIS_Z)
    skin_x = (angle * chart.RADIUS - chart.U_LIMITS[0]) / chart.TEXEL
    skin_y = (chart.V_LIMITS[1] - coordinates[..., 1]) / chart.TEXEL
    center = jnp.where(coordinates[..., :1] < 0, stage.eye_centers[0], stage.eye_centers[1])
    off_axis = (coordinates - center)[..., :2] / EYE_AXIS
    return jnp.concatenate([skin_x[..., None], skin_y[..., None], coordinates[..., :2] * CLOTH_SIZE, off_axis], axis=-1)


def vertex_normals(vertices: Float[Array, "b v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "b v 3"]:
    """Area-weighted unit normals."""
    corners = vertices[:, faces]
    normal = jnp.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = jnp.zeros_like(vertices)
    for corner in range(3):
        total = total.at[:, faces[:, corner]].add(normal)
    return normalize(total, epsilon=1e-20)


def light_harmonics(light: Light) -> Float[Array, "9 3"]:
    """Harmonic coefficients of the lights in the units of `sheap_jax.lighting.shade`."""
    directional = jnp.einsum("kh,kc->hc", sh_basis(light.directions), light.colors)
    ambient = jnp.zeros((9, 3)).at[0].set(light.ambient / (LAMBERT_FACTORS[0] * sh_basis(jnp.zeros(3))[0]))
    return directional + ambient


def shade_with(light: Light, normals: Float[Array, "b v 3"]) -> Float[Array, "b v 3"]:
    """Irradiance without shadows."""
    factors = jnp.array(LAMBERT_FACTORS)[:, None]
    return sh_basis(normals) @ (factors * light_harmonics(light))


def _shadow(stage: Stage, head_rotation: Float[Array, "b 3 3"], light: Light) -> Float[Array, "b v 3"]:
    """Share of the light that reaches each vertex of the head, from the template's light transfer.

    Red light scatters under the skin and softens the shadow's edge, hence the exponents.
    """
    turned = jax.vmap(lambda rotation: light_harmonics(light._replace(directions=light.directions @ rotation)))
    harmonics = turned(head_rotation)  # rows d become R^T d
    reached = jnp.einsum("vh,bhc->bvc", stage.transfer, harmonics)
    full = jnp.einsum("vh,bhc->bvc", stage.open_transfer, harmonics)
    ratio = jnp.clip(reached / jnp.maximum(full, 0.05), 0.03, 1.0)
    return ratio ** jnp.array([0.8, 1.0, 1.08])


def _specular(layer: Layer, light: Light, exponent: int) -> Float[Array, "b h w 3"]:
    """Blinn-Phong highlights of key and fill for a viewer on the z axis; an integer exponent is much faster."""
    total = jnp.zeros_like(layer.normal)
    for k in range(HIGHLIGHTS):
        half = normalize(light.directions[k] + jnp.array([0.0, 0.0, 1.0]))
        lobe = jnp.maximum(layer.normal @ half, 0.0) ** exponent * ((exponent + 8) / 25)
        total = total + lobe[..., None] * light.colors[k]
    return total


def _eyes(solid: Layer, iris: Float[Array, "3"]) -> Float[Array, "b h w 3"]:
    """Albedo of the eyeballs: pupil, iris with a dark rim and rays, sclera with reddish corners."""
    x, y = solid.coordinates[..., 4], solid.coordinates[..., 5]
    radius = jnp.sqrt(x * x + y * y)
    rays = 1 + 0.2 * jnp.sin(45 * x) * jnp.sin(45 * y)
    rim = 1 - 0.75 * jax.nn.sigmoid((radius - 0.42) / 0.02)
    colored = (iris * 1.3)[None, None, None] * (rays * rim)[..., None]
    white = jnp.array([0.62, 0.56, 0.53]) * (1 - 0.3 * jnp.clip(radius - 0.5, 0, 1))[..., None]
    inside = jax.nn.sigmoid((IRIS - radius) / 0.02)[..., None]
    pupil = jax.nn.sigmoid((PUPIL - radius) / 0.02)[..., None]
    return (white * (1 - inside) + colored * inside) * (1 - pupil) + 0.004 * pupil


def _teeth(solid: Layer) -> Float[Array, "b h w 3"]:
    """Albedo: ivory teeth with dark gaps on pink gums, in the shade of the lips and the cheeks."""
    across, height = solid.coordinates[..., 4], solid.coordinates[..., 5]
    gap = jnp.abs(jnp.sin(across * (jnp.pi / TOOTH_WIDTH)))
    ivory = jnp.array([0.62, 0.56, 0.46]) * jnp.clip(0.55 + 2 * gap, 0, 1)[..., None]
    gums = jax.nn.sigmoid((height - 0.82) * 30)[..., None]
    shade = 0.7 * jnp.exp(-((across / 0.02) ** 2))[..., None]
    return (ivory * (1 - gums) + jnp.array([0.30, 0.09, 0.08]) * gums) * shade


@jax.jit
def compose(
    solid: Layer,
    hair: Layer,
    skin: Float[Array, "b h w 4"],
    cloth: Float[Array, "b h w 3"],
    strands: Float[Array, "b h w 4"],
    backdrop: Float[Array, "h w 3"],
    iris: Float[Array, "3"],
    hair_amount: Float[Array, ""],
    light: Light,
) -> tuple[Float[Array, "b h w 3"], Bool[Array, "b h w"]]:
    """Shade both layers and put them over the backdrop: linear RGB; also the mask of the head."""
    kind = solid.kind[..., None]
    shadow = jnp.clip(solid.irradiance.mean(axis=-1, keepdims=True) * 1.5, 0, 1)
    fresnel = (1 - jnp.clip(solid.facing, 0, 1))[..., None] ** 4
    gloss = skin[..., 3:] * (0.05 + 0.25 * fresnel) * _specular(solid, light, 16) * shadow
    image = skin[..., :3] * solid.irradiance + gloss
    eyes = _eyes(solid, iris) * solid.irradiance + 0.5 * jnp.minimum(_specular(solid, light, 128), 1.5)
    image = jnp.where(kind == EYE, eyes, image)
    image = jnp.where(kind == MOUTH, jnp.array([0.05, 0.016, 0.014]) * solid.irradiance, image)
    image = jnp.where(kind == TEETH, _teeth(solid) * solid.irradiance, image)
    image = jnp.where(
        kind == CLOTH, cloth * solid.irradiance * jnp.where(solid.facing > 0, 1.0, 0.25)[..., None], image
    )
    image = jnp.where(kind < 0, backdrop, image)

    inward = jnp.where(hair.facing > 0, 1.0, 0.3)[..., None]
    sheen = 0.35 * strands[..., :3] ** 0.5 * _specular(hair, light, 8) * 0.3
    lit = (strands[..., :3] * hair.irradiance + sheen) * inward
    alpha = jnp.clip((hair.coordinates[..., 2] - strands[..., 3]) / 0.003, 0, 1) * hair_amount
    alpha = jnp.where(hair.depth < solid.depth, alpha, 0.0)
    image = image + alpha[..., None] * (lit - image)
    head = (solid.kind >= 0) & (solid.kind != CLOTH) & (alpha < 0.5)
    return image, head


def linear_to_srgb(value: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Camera response: a soft shoulder for highlights, then the sRGB curve (IEC 61966-2-1); output in [0, 1]."""
    value = np.clip(value, 0.0, None)
    value = np.where(value > 0.6, 0.6 + 0.4 * np.tanh((value - 0.6) / 0.4), value)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 1e-6) ** (1 / 2.4) - 0.055)


def finish(image: Float[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A camera's imperfections: a slight blur and sensor noise."""
    blurred = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), rng.uniform(0.25, 0.6))
    noisy = blurred + rng.uniform(0.003, 0.014) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(noisy * 255), 0, 255).astype(np.uint8)
