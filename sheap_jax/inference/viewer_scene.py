"""What the viewer draws, as arrays. Its unit is the centimetre: viser keeps covariances in half precision."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.geometry import quaternion_to_matrix
from sheap_jax.inference.avatar import RiggedSurfels, pose_surfels
from sheap_jax.inference.splats import THICKNESS
from sheap_jax.morphable import MorphableModel, forward
from sheap_jax.types import HeadParams

CENTIMETRES = 100.0  # per metre
Y, X = 1, 3  # rows of the harmonics, see sheap_jax.method.lighting
TURN = 0.8  # linear light, in units of the constant one, at the end of a slider


class LightChange(NamedTuple):
    """A change of a person's light: the whole times `brightness`, and more of it from one side."""

    brightness: Float[Array, ""]
    left: Float[Array, ""]  # -1 to 1, the subject's left
    above: Float[Array, ""]  # -1 to 1


class Splats(NamedTuple):
    """3D Gaussians in the order of viser's arguments."""

    centers: Float[Array, "n 3"]
    covariances: Float[Array, "n 3 3"]
    colors: Float[Array, "n 3"]
    opacities: Float[Array, "n 1"]


@jax.jit
def mesh_in_view(model: MorphableModel, params: HeadParams) -> Float[Array, "v 3"]:
    """Posed vertices in centimetres."""
    return CENTIMETRES * forward(model, params)


@jax.jit
def splats_in_view(rigged: RiggedSurfels, model: MorphableModel, params: HeadParams, change: LightChange) -> Splats:
    """The avatar's surfels on the head of `params`, as flat Gaussians in centimetres."""
    posed = pose_surfels(dataclasses.replace(rigged, light=change_light(rigged.light, change)), model, params)
    surfels = posed.surfels
    axes = quaternion_to_matrix(surfels.quats) * CENTIMETRES * surfels.scales.at[:, 2].set(THICKNESS)[:, None, :]
    return Splats(
        CENTIMETRES * surfels.means,
        axes @ jnp.swapaxes(axes, -1, -2),
        jnp.clip(posed.colors, 0.0, 1.0),
        surfels.opacities[:, None],
    )


def change_light(light: Float[Array, "9 3"], change: LightChange) -> Float[Array, "9 3"]:
    """Harmonic coefficients with a linear part added in the constant part's colour, all times the brightness."""
    sides = jnp.zeros_like(light).at[X].set(change.left * light[0]).at[Y].set(change.above * light[0])
    return change.brightness * (light + TURN * sides)
