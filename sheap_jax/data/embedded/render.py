"""Pictures of posed people: z-buffer, deferred shading, two layers (solid things, then hair with its own alpha).

Two compiled functions with numpy texture look-ups (cv2.remap) between them, because gathers of colour are what XLA
does slowly on a CPU. All shapes are fixed, so that each function compiles once.
"""

from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from sheap_jax.data.embedded.layers import Layer, Posed, rasterize_layers
from sheap_jax.data.embedded.light_and_backdrop import DistantLights
from sheap_jax.data.embedded.scene_meshes import CLOTH, EYE, MOUTH, TEETH, SceneMeshes
from sheap_jax.geometry import normalize

TOOTH_WIDTH = 0.0075  # metres
HIGHLIGHTS = 2  # how many of the lights make highlights
IRIS, PUPIL = 0.49, 0.21  # sine of the angle from the eye's axis


class ClipTextures(NamedTuple):
    """Textures and colours of one clip."""

    skin: Float[np.ndarray, "h w 4"]
    hair: Float[np.ndarray, "s s 4"]
    cloth: Float[np.ndarray, "s s 3"]
    iris: Float[np.ndarray, "3"]
    hair_amount: float  # 0: no shell
    backdrop: Float[np.ndarray, "s s 3"]


class Picture(NamedTuple):
    """Finished frames."""

    image: Float[np.ndarray, "b h w 3"]  # sRGB in [0, 1]
    head: Bool[np.ndarray, "b h w"]  # pixels whose centre shows the head (not hair, not clothes)


def render(
    meshes: SceneMeshes,
    posed: Posed,
    strand: Float[np.ndarray, "h 4"],
    textures: ClipTextures,
    lights: DistantLights,
    *,
    size: int,
    supersampling: float,
) -> Picture:
    """Render the frames of one clip at `size` pixels."""
    wide = round(size * supersampling)
    solid, hair = rasterize_layers(meshes, posed, strand, lights, size=wide)
    texel = np.asarray(solid.coordinates)
    skin = _look_up(textures.skin, texel[..., :2], cv2.BORDER_REPLICATE)
    cloth = _look_up(textures.cloth, texel[..., 2:4], cv2.BORDER_REPLICATE)
    strands = _look_up(textures.hair, np.asarray(hair.coordinates)[..., :2], cv2.BORDER_WRAP)
    backdrop = cv2.resize(textures.backdrop, (wide, wide), interpolation=cv2.INTER_LINEAR)
    image, head = compose(solid, hair, skin, cloth, strands, backdrop, textures.iris, textures.hair_amount, lights)
    shrunk = [_shrink(frame, size) for frame in np.asarray(image)]
    mask = [_shrink(frame.astype(np.float32), size) > 0.5 for frame in np.asarray(head)]
    return Picture(linear_to_srgb(np.stack(shrunk)), np.stack(mask))


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _look_up(texture: np.ndarray, texel: np.ndarray, border: int) -> Float[np.ndarray, "b h w c"]:
    """Bilinear look-up; texel coordinates with the first centre at 0.5."""
    at = texel.astype(np.float32) - 0.5
    return np.stack([cv2.remap(texture, one[..., 0], one[..., 1], cv2.INTER_LINEAR, borderMode=border) for one in at])


def _specular(layer: Layer, lights: DistantLights, exponent: int) -> Float[Array, "b h w 3"]:
    """Blinn-Phong highlights of key and fill for a viewer on the z axis; an integer exponent is much faster."""
    total = jnp.zeros_like(layer.normal)
    for k in range(HIGHLIGHTS):
        half = normalize(lights.directions[k] + jnp.array([0.0, 0.0, 1.0]))
        lobe = jnp.maximum(layer.normal @ half, 0.0) ** exponent * ((exponent + 8) / 25)
        total = total + lobe[..., None] * lights.colors[k]
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
    lights: DistantLights,
) -> tuple[Float[Array, "b h w 3"], Bool[Array, "b h w"]]:
    """Shade both layers and put them over the backdrop: linear RGB; also the mask of the head."""
    kind = solid.kind[..., None]
    shadow = jnp.clip(solid.irradiance.mean(axis=-1, keepdims=True) * 1.5, 0, 1)
    fresnel = (1 - jnp.clip(solid.facing, 0, 1))[..., None] ** 4
    gloss = skin[..., 3:] * (0.05 + 0.25 * fresnel) * _specular(solid, lights, 16) * shadow
    image = skin[..., :3] * solid.irradiance + gloss
    eyes = _eyes(solid, iris) * solid.irradiance + 0.5 * jnp.minimum(_specular(solid, lights, 128), 1.5)
    image = jnp.where(kind == EYE, eyes, image)
    image = jnp.where(kind == MOUTH, jnp.array([0.16, 0.045, 0.04]) * jnp.maximum(solid.irradiance, 0.1), image)
    image = jnp.where(kind == TEETH, _teeth(solid) * solid.irradiance, image)
    image = jnp.where(
        kind == CLOTH, cloth * solid.irradiance * jnp.where(solid.facing > 0, 1.0, 0.25)[..., None], image
    )
    image = jnp.where(kind < 0, backdrop, image)

    inward = jnp.where(hair.facing > 0, 1.0, 0.3)[..., None]
    sheen = 0.35 * strands[..., :3] ** 0.5 * _specular(hair, lights, 8) * 0.3
    lit = (strands[..., :3] * hair.irradiance + sheen) * inward
    # Over the backdrop more hair of the shell's far side lies behind a gap, which a z-buffer does not keep.
    ragged = strands[..., 3] * jnp.where(solid.kind < 0, 0.2, 1.0)
    alpha = (
        jnp.clip((hair.coordinates[..., 2] - ragged) / 0.005 + jnp.where(solid.kind < 0, 0.5, 0.0), 0, 1) * hair_amount
    )
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
