"""The embedded head: a generated adult head and neck as a `MorphableModel`, and people who exceed its basis.

It exists so that anybody can train, test and benchmark without a licence. Everything comes from the
code in this folder; both levels of detail sample the same surface and the same modes.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sheap_jax.morphable.embedded.anatomy import to_world
from sheap_jax.morphable.embedded.density import DENSITIES
from sheap_jax.morphable.embedded.expressions import EXPRESSIONS, expression_basis
from sheap_jax.morphable.embedded.identity import identity_basis, identity_names, individual_detail
from sheap_jax.morphable.embedded.landmarks import contour_table, landmark_chart, locate
from sheap_jax.morphable.embedded.mesh import HeadMesh, build_mesh
from sheap_jax.morphable.embedded.population import Population, draw_population, draw_shape
from sheap_jax.morphable.embedded.skeleton import JOINTS, PARENTS, joint_regressor, regions, skinning_weights
from sheap_jax.morphable.model import MorphableModel


class EmbeddedPerson(NamedTuple):
    """A person: neutral = template + identity basis @ shape + residual."""

    population: Population  # what shape and appearance have in common
    shape: Float[np.ndarray, "s"]  # coefficients, each of mean 0 and variance 1
    residual: Float[np.ndarray, "v 3"]  # metres, what the basis does not span
    neutral: Float[np.ndarray, "v 3"]  # metres


@functools.cache
def _mesh(detail: str) -> HeadMesh:
    if detail not in DENSITIES:
        raise ValueError(f"embedded head: detail is {detail!r}, must be one of {sorted(DENSITIES)}")
    return build_mesh(DENSITIES[detail])


@functools.cache
def _basis(detail: str) -> np.ndarray:
    """Identity basis [s, v, 3] in millimetres."""
    return identity_basis(_mesh(detail))


@functools.cache
def _projector() -> np.ndarray:
    """[s, 3 v]: coefficients of the coarse basis that come nearest to a displacement of the coarse mesh."""
    basis = _basis("coarse")
    return np.linalg.pinv(basis.reshape(len(basis), -1).T)


@functools.cache
def embedded_head(*, detail: str = "coarse") -> MorphableModel:
    """The generated head at one of two mesh densities; coefficients mean the same at both.

    Args:
        detail: "coarse" (about 1,000 vertices, for training) or "fine" (about 5,000, for ground truth).

    Raises:
        ValueError: for another detail.
    """
    mesh = _mesh(detail)
    fixed = locate(mesh, landmark_chart())
    contour = contour_table(mesh)

    def floats(values: np.ndarray) -> jnp.ndarray:
        return jnp.asarray(values, dtype=jnp.float32)

    def integers(values: np.ndarray) -> jnp.ndarray:
        return jnp.asarray(values, dtype=jnp.int32)

    return MorphableModel(
        template=floats(to_world(mesh.points)),
        identity_basis=floats(_basis(detail) / 1000.0),
        expression_basis=floats(expression_basis(mesh) / 1000.0),
        pose_basis=jnp.zeros((0, len(mesh.points), 3), jnp.float32),
        joint_regressor=floats(joint_regressor(mesh)),
        skinning_weights=floats(skinning_weights(mesh)),
        faces=integers(mesh.faces),
        uv=floats(mesh.uv),
        uv_faces=integers(mesh.uv_faces),
        landmark_faces=integers(fixed.faces),
        landmark_barycentrics=floats(fixed.barycentrics),
        contour_faces=integers(contour.faces),
        contour_barycentrics=floats(contour.barycentrics),
        regions={name: floats(mask) for name, mask in regions(mesh).items()},
        parents=PARENTS,
        joint_names=tuple(JOINTS),
        expression_names=tuple(EXPRESSIONS),
        name=f"embedded-{detail}",
    )


def _draw_coefficients(rng: np.random.Generator) -> tuple[Population, Float[np.ndarray, "s"]]:
    population = draw_population(rng)
    return population, draw_shape(population, identity_names(), rng)


def embedded_shape(seed: int) -> Float[np.ndarray, "s"]:
    """Coefficients of `embedded_person`, without its mesh."""
    return _draw_coefficients(np.random.default_rng([seed, 68]))[1].astype(np.float32)


def embedded_person(seed: int, *, detail: str = "fine") -> EmbeddedPerson:
    """A random person, the same at both levels of detail.

    The residual holds what the identity basis cannot express: it is made free of the basis on the coarse mesh by
    least squares, with the same correction at every detail.
    """
    rng = np.random.default_rng([seed, 68])
    mesh, coarse, basis = _mesh(detail), _mesh("coarse"), _basis(detail)
    population, coefficients = _draw_coefficients(rng)
    state = rng.bit_generator.state
    coarse_detail = individual_detail(coarse, rng)
    rng.bit_generator.state = state
    spanned = _projector() @ coarse_detail.ravel()
    residual = (individual_detail(mesh, rng) - np.tensordot(spanned, basis, axes=1)) / 1000.0
    neutral = to_world(mesh.points) + np.tensordot(coefficients, basis, axes=1) / 1000.0 + residual
    return EmbeddedPerson(
        population=population,
        shape=coefficients.astype(np.float32),
        residual=residual.astype(np.float32),
        neutral=neutral.astype(np.float32),
    )
