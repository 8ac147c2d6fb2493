"""Lambertian shading under environment light given by spherical harmonics, and a linear prior over such light.

Order of the nine real orthonormal harmonics, here and in the Basel Illumination Prior: 1, y, z, x, xy, yz, 3z^2-1,
zx, x^2-y^2. A coefficient array is [9, 3]: one row per harmonic, RGB in the columns.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HARMONICS = 9

# Factors of the harmonics, from their orthonormality on the unit sphere.
_BAND0 = 0.5 * math.sqrt(1 / math.pi)
_BAND1 = 0.5 * math.sqrt(3 / math.pi)
_BAND2 = 0.5 * math.sqrt(15 / math.pi)
_BAND2_Z = 0.25 * math.sqrt(5 / math.pi)
_BAND2_XY = 0.25 * math.sqrt(15 / math.pi)

# Convolution with the clamped cosine, per harmonic (Ramamoorthi and Hanrahan, SIGGRAPH 2001, eq. 8).
LAMBERT_FACTORS = (math.pi,) + (2 * math.pi / 3,) * 3 + (math.pi / 4,) * 5


class LightPrior(NamedTuple):
    """Linear model of environment light: coefficients = mean + sum_p weights_p basis_p, weights of unit variance."""

    mean: Float[Array, "9 3"]
    basis: Float[Array, "p 9 3"]


def sh_basis(directions: Float[Array, "*b 3"]) -> Float[Array, "*b 9"]:
    """The nine real orthonormal spherical harmonics of bands 0 to 2 at unit vectors."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    return jnp.stack(
        [
            jnp.full_like(x, _BAND0),
            _BAND1 * y,
            _BAND1 * z,
            _BAND1 * x,
            _BAND2 * x * y,
            _BAND2 * y * z,
            _BAND2_Z * (3 * z * z - 1),
            _BAND2 * z * x,
            _BAND2_XY * (x * x - y * y),
        ],
        axis=-1,
    )


def shade(normals: Float[Array, "*#b n 3"], coefficients: Float[Array, "*#b 9 3"]) -> Float[Array, "*#b n 3"]:
    """Irradiance at surface points with unit `normals`: colour = albedo x irradiance.

    The 1/pi of a Lambertian surface is part of the unit of `coefficients`, as in the Basel Illumination Prior. Band-2
    light may make the value slightly negative in deep shadow; it is not clipped, so that its gradient stays alive.
    """
    factors = jnp.array(LAMBERT_FACTORS, coefficients.dtype)
    return sh_basis(normals) @ (factors[:, None] * coefficients)


def coefficients(prior: LightPrior, weights: Float[Array, "*b p"]) -> Float[Array, "*b 9 3"]:
    """Harmonic coefficients of the environments with the given weights of the prior's components."""
    return prior.mean + jnp.tensordot(weights, prior.basis, axes=1)


def fit_light_prior(environments: np.ndarray, components: int) -> LightPrior:
    """Principal components of environments [m, 9, 3], each scaled to one standard deviation.

    Raises ValueError if there are not more environments than components. The sign of a component is fixed by its
    largest entry, so that every machine gets the same prior.
    """
    count = len(environments)
    if not 1 <= components <= min(count - 1, HARMONICS * 3):
        raise ValueError(f"{components} components need 1 <= components <= 27 and more environments than {count}")
    flat = np.asarray(environments, np.float64).reshape(count, HARMONICS * 3)
    mean = flat.mean(axis=0)
    _, singular, directions = np.linalg.svd(flat - mean, full_matrices=False)
    basis = directions * (singular / math.sqrt(count - 1))[:, None]
    largest = np.argmax(np.abs(basis), axis=1)
    basis *= np.sign(basis[np.arange(len(basis)), largest])[:, None]
    return LightPrior(
        mean=jnp.asarray(mean.reshape(HARMONICS, 3), jnp.float32),
        basis=jnp.asarray(basis[:components].reshape(components, HARMONICS, 3), jnp.float32),
    )


def ambient_light_prior(components: int) -> LightPrior:
    """White light of irradiance 1 from everywhere, whatever the weights: colour = albedo. For the ablation of light."""
    constant = jnp.zeros((HARMONICS, 3), jnp.float32).at[0].set(1 / (_BAND0 * LAMBERT_FACTORS[0]))
    return LightPrior(constant, jnp.zeros((components, HARMONICS, 3), jnp.float32))


def default_light_prior(components: int, *, environments: int = 2000) -> LightPrior:
    """A prior that needs no asset: the principal components of random soft environments around a head.

    Each environment is tinted ambient light plus three broad sources, mostly above and in front (+y, +z). Their common
    scale makes the irradiance, averaged over normals that face the camera, one on average. The numbers depend on
    `environments` only.
    """
    uniform = np.random.Generator(np.random.PCG64(2025)).random((environments, 4, 8))
    ambient = 0.15 + 0.35 * uniform[:, 0, 0]
    light = np.zeros((environments, HARMONICS, 3))
    # A constant environment L has the single coefficient L sqrt(4 pi).
    light[:, 0] = (ambient[:, None] * _tint(uniform[:, 0, 1:3])) * math.sqrt(4 * math.pi)
    for source in range(1, 4):
        draw = uniform[:, source]
        direction = _gaussian(draw[:, :4]) + np.array([0.0, 0.7, 0.9])
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        power = 0.1 + 0.9 * draw[:, 4] ** 2
        width = 0.5 + 0.5 * draw[:, 5]  # 1: a clamped-cosine lobe, smaller: sharper
        # A lobe about d with zonal coefficients z_l has the coefficients z_l Y_lm(d); a sharp one keeps z_l = 1.
        zonal = 1 - width[:, None] * (1 - np.array(LAMBERT_FACTORS) / math.pi)
        basis = np.asarray(sh_basis(jnp.asarray(direction, jnp.float32)), np.float64)
        light += (zonal * basis)[..., None] * (power[:, None] * _tint(draw[:, 6:8]))[:, None]
    front = _gaussian(np.random.Generator(np.random.PCG64(2026)).random((500, 4)))
    front[:, 2] = np.abs(front[:, 2])
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    irradiance = np.asarray(shade(jnp.asarray(front, jnp.float32), jnp.asarray(light.mean(axis=0), jnp.float32)))
    return fit_light_prior(light / irradiance.mean(), components)


def _gaussian(uniform: np.ndarray) -> np.ndarray:
    """Three standard normal numbers from four uniform ones (Box-Muller), whatever numpy's own sampler does."""
    radius = np.sqrt(-2 * np.log1p(-uniform[:, :2]))
    angle = 2 * np.pi * uniform[:, 2:4]
    return np.concatenate([radius * np.cos(angle), radius[:, :1] * np.sin(angle[:, :1])], axis=1)


def _tint(uniform: np.ndarray) -> np.ndarray:
    """Colours from warm to cold with a little green or magenta, about white on average."""
    warm, green = 2 * uniform[:, 0] - 1, 2 * uniform[:, 1] - 1
    return 1 + np.stack([0.2 * warm, 0.06 * green, -0.2 * warm], axis=1)
