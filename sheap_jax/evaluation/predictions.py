"""What an evaluation asks of a trained network, and the geometry that follows from its answers."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sheap_jax.cropping import Framing
from sheap_jax.evaluation.geometry_scores import NOW_LANDMARKS, Mesh
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable import MorphableModel, forward, landmarks
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import HeadParams

# The network, and methods that see less than it does.
OURS = "ours"
MEAN_HEAD = "mean head"
NO_EXPRESSION = "predicted head without expression"

EYE_CORNERS = (36, 45)  # outer ones among the 68 landmarks: their distance normalises landmark errors


class NetworkUnderTest(Protocol):
    """A trained network as functions of any number of images, so that evaluation does not know how it was trained."""

    @property
    def model(self) -> MorphableModel: ...

    @property
    def framing(self) -> Framing:
        """The rule of the crops that it was trained on."""
        ...

    def __call__(self, images: Float[Array, "n h w 3"], /) -> HeadParams:
        """Head parameters of each image, in the frame of the official camera."""
        ...

    def reanimate(
        self, source: Float[Array, "n h w 3"], target: Float[Array, "n h w 3"], /
    ) -> Float[np.ndarray, "n h w 3"]:
        """The person of each source image rendered with expression and pose of its target image."""
        ...


class HeadGeometry(NamedTuple):
    """Geometry of N heads, NumPy arrays in metres."""

    vertices: Float[np.ndarray, "n v 3"]
    landmarks: Float[np.ndarray, "n 68 3"]

    def meshes(self) -> list[Mesh]:
        """One mesh with NoW's seven landmarks per head."""
        return [Mesh(*pair) for pair in zip(self.vertices, self.landmarks[:, NOW_LANDMARKS], strict=True)]


def neutral(model: MorphableModel, params: HeadParams) -> HeadParams:
    """The same people without expression, pose and translation: what NoW asks for."""
    return mean_params(model, *params.shape.shape[:-1])._replace(shape=params.shape)


def expressionless(model: MorphableModel, params: HeadParams) -> HeadParams:
    """The same people and head poses with zero expression and a closed jaw."""
    rotations = jnp.asarray(params.rotations)
    if "jaw" in model.joint_names:
        rotations = rotations.at[..., model.joint_names.index("jaw"), :].set(0.0)
    return params._replace(expression=jnp.zeros_like(params.expression), rotations=rotations)


def pose_heads(model: MorphableModel, params: HeadParams) -> HeadGeometry:
    """Vertices and landmarks of parameters with one batch axis."""
    return HeadGeometry(*(np.asarray(array) for array in _pose(model, params)))


@jax.jit
def _pose(model: MorphableModel, params: HeadParams) -> tuple[Array, Array]:
    vertices = forward(model, params)
    return vertices, landmarks(model, vertices, params.rotations)


def project_landmarks(heads: HeadGeometry, *, image_size: int) -> Float[np.ndarray, "n 68 2"]:
    """Pixels of the landmarks in square images of the official camera."""
    return np.asarray(project(jnp.asarray(heads.landmarks), official_camera(image_size)))
