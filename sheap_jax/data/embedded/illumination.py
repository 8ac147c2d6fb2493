"""Light on the vertices: irradiance from the clip's lights, and the shadows that the head throws on itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.data.embedded.light_and_backdrop import DistantLights
from sheap_jax.data.embedded.scene_meshes import SceneMeshes
from sheap_jax.method.lighting import LAMBERT_FACTORS, sh_basis, shade


def light_harmonics(lights: DistantLights) -> Float[Array, "9 3"]:
    """Harmonic coefficients of the lights in the units of `sheap_jax.method.lighting.shade`."""
    directional = jnp.einsum("kh,kc->hc", sh_basis(jnp.asarray(lights.directions)), lights.colors)
    ambient = jnp.zeros((9, 3)).at[0].set(lights.ambient / (LAMBERT_FACTORS[0] * sh_basis(jnp.zeros(3))[0]))
    return directional + ambient


def irradiance(lights: DistantLights, normals: Float[Array, "b v 3"]) -> Float[Array, "b v 3"]:
    """Irradiance without shadows."""
    return shade(normals, light_harmonics(lights))


def shadow(meshes: SceneMeshes, head_rotation: Float[Array, "b 3 3"], lights: DistantLights) -> Float[Array, "b v 3"]:
    """Share of the light that reaches each vertex of the head, from the template's light transfer.

    Red light scatters under the skin and softens the shadow's edge, hence the exponents.
    """
    turned = jax.vmap(lambda rotation: light_harmonics(lights._replace(directions=lights.directions @ rotation)))
    harmonics = turned(head_rotation)  # rows d become R^T d
    reached = jnp.einsum("vh,bhc->bvc", meshes.transfer, harmonics)
    full = jnp.einsum("vh,bhc->bvc", meshes.open_transfer, harmonics)
    ratio = jnp.clip(reached / jnp.maximum(full, 0.05), 0.03, 1.0)
    return ratio ** jnp.array([0.8, 1.0, 1.08])
