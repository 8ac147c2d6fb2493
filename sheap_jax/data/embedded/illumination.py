"""Light on the vertices: irradiance from the clip's lights, and the shadows that the head throws on itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.data.embedded.stage import Stage
from sheap_jax.data.embedded.studio import Light
from sheap_jax.method.lighting import LAMBERT_FACTORS, sh_basis, shade


def light_harmonics(light: Light) -> Float[Array, "9 3"]:
    """Harmonic coefficients of the lights in the units of `sheap_jax.method.lighting.shade`."""
    directional = jnp.einsum("kh,kc->hc", sh_basis(jnp.asarray(light.directions)), light.colors)
    ambient = jnp.zeros((9, 3)).at[0].set(light.ambient / (LAMBERT_FACTORS[0] * sh_basis(jnp.zeros(3))[0]))
    return directional + ambient


def irradiance(light: Light, normals: Float[Array, "b v 3"]) -> Float[Array, "b v 3"]:
    """Irradiance without shadows."""
    return shade(normals, light_harmonics(light))


def shadow(stage: Stage, head_rotation: Float[Array, "b 3 3"], light: Light) -> Float[Array, "b v 3"]:
    """Share of the light that reaches each vertex of the head, from the template's light transfer.

    Red light scatters under the skin and softens the shadow's edge, hence the exponents.
    """
    turned = jax.vmap(lambda rotation: light_harmonics(light._replace(directions=light.directions @ rotation)))
    harmonics = turned(head_rotation)  # rows d become R^T d
    reached = jnp.einsum("vh,bhc->bvc", stage.transfer, harmonics)
    full = jnp.einsum("vh,bhc->bvc", stage.open_transfer, harmonics)
    ratio = jnp.clip(reached / jnp.maximum(full, 0.05), 0.03, 1.0)
    return ratio ** jnp.array([0.8, 1.0, 1.08])
