"""Pictures of an avatar, of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tileraster
from jaxtyping import Array, Float

from sheap_jax import geometry
from sheap_jax.inference.avatar import RiggedSurfels, pose_surfels
from sheap_jax.method import rendering
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import HeadParams

WHITE = (1.0, 1.0, 1.0)
FIRST_ROOM = 1 << 16  # enough for some thousand surfels in pictures of 256 pixels


class AvatarRenderer:
    """The avatar seen by the training camera; room for (tile, surfel) entries grows with what the pictures need."""

    def __init__(
        self,
        rigged: RiggedSurfels,
        model: MorphableModel,
        *,
        size: int,
        background: tuple[float, float, float] = WHITE,
    ):
        self.rigged, self.model, self.size = rigged, model, size
        self._background = jnp.asarray(background, jnp.float32)
        self._room = FIRST_ROOM

    def __call__(self, params: HeadParams) -> Float[np.ndarray, "size size 3"]:
        """RGB in [0, 1] of the avatar with pose and expression of `params` (no batch axis).

        Whatever shape `params` has, the avatar keeps its own.
        """
        params = params._replace(shape=self.rigged.head.shape)
        while True:
            image = _render(self.rigged, self.model, params, self._background, size=self.size, room=self._room)
            if not int(image.overflow[0]):
                return np.clip(np.asarray(image.color[0]), 0.0, 1.0)
            self._room = tileraster.grow_capacity(self._room, image.overflow)


@functools.partial(jax.jit, static_argnames=("size", "room"))
def _render(
    rigged: RiggedSurfels,
    model: MorphableModel,
    params: HeadParams,
    background: Float[Array, "3"],
    *,
    size: int,
    room: int,
) -> tileraster.SurfelImage | tileraster.EllipsoidImage:
    posed = pose_surfels(rigged, model, params)
    surfels, colors, background = jax.tree.map(lambda x: x[None], (posed.surfels, posed.colors, background))
    camera = geometry.official_camera(size)
    return rendering.render_surfels(
        surfels, colors, camera, width=size, height=size, background=background, max_intersections=room
    )
