"""What the source image shows of each prototype: the colour that its surfel starts from. Ours, the paper has none.

A small network that learns for minutes gives everybody the same skin and hair: it has no time to learn how features
become colours. The source's own pixels say most of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax import geometry
from sheap_jax.method.losses.consistency import face_normals
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import points_on_faces
from sheap_jax.types import Camera, PrototypeState, SeenColors

FULLY_SEEN = 0.3  # cosine between normal and viewing direction from which a colour counts whole


def seen_colors(
    image: Float[Array, "b h w 3"],
    vertices: Float[Array, "b v 3"],
    model: MorphableModel,
    prototypes: PrototypeState,
    camera: Camera,
) -> SeenColors:
    """Colours of a source image at the prototypes on its head. No gradient flows through them.

    The head may hide parts of itself (the cheek behind a nose): these get the colour of what hides them.

    Args:
        image: RGB in [0, 1].
        vertices: the head as the image shows it, metres.
        camera: of the image.
    """
    vertices = jax.lax.stop_gradient(vertices)
    points = points_on_faces(vertices, model.faces, prototypes.parent_face, prototypes.barycentric)
    normals = face_normals(vertices, model.faces)[:, prototypes.parent_face]
    rotation, offset = camera.viewmat[..., :3, :3], camera.viewmat[..., :3, 3]
    to_camera = geometry.normalize(-jnp.einsum("...ji,...j->...i", rotation, offset) - points)
    facing = jnp.sum(normals * to_camera, axis=-1)
    colors = jax.vmap(_bilinear)(image, geometry.project(points, camera))
    return SeenColors(colors, jnp.clip(facing / FULLY_SEEN, 0.0, 1.0))


def unseen(prototypes: PrototypeState) -> SeenColors:
    """Colours of one image that shows no prototype."""
    count = prototypes.parent_face.shape[0]
    return SeenColors(jnp.zeros((1, count, 3)), jnp.zeros((1, count)))


def _bilinear(image: Float[Array, "h w 3"], pixels: Float[Array, "n 2"]) -> Float[Array, "n 3"]:
    """Colours at pixel coordinates; the border's outside the image."""
    height, width = image.shape[:2]
    x = jnp.clip(pixels[:, 0] - 0.5, 0, width - 1)
    y = jnp.clip(pixels[:, 1] - 0.5, 0, height - 1)
    left = jnp.clip(jnp.floor(x), 0, width - 2).astype(jnp.int32)
    top = jnp.clip(jnp.floor(y), 0, height - 2).astype(jnp.int32)
    right, low = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return upper * (1 - low) + lower * low
