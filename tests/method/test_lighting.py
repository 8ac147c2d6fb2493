"""Harmonics against scipy, shading against numerical integration over the sphere, the prior against statistics."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import factorial, lpmv

from sheap_jax.method import lighting


def sphere_quadrature(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights: Gauss-Legendre in z, equal steps in azimuth."""
    z, weight = np.polynomial.legendre.leggauss(count)
    azimuth = np.arange(2 * count) * np.pi / count
    z, azimuth = np.meshgrid(z, azimuth, indexing="ij")
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1).reshape(-1, 3)
    return directions, np.repeat(weight * np.pi / count, 2 * count)


def real_harmonics(directions: np.ndarray) -> np.ndarray:
    """The nine real harmonics from scipy's Legendre functions, without the Condon-Shortley phase, in our order."""
    phi = np.arctan2(directions[:, 1], directions[:, 0])

    def real(l, m):
        order = abs(m)
        norm = np.sqrt((2 * l + 1) / (4 * np.pi) * factorial(l - order) / factorial(l + order))
        legendre = norm * lpmv(order, l, directions[:, 2]) * (-1) ** order
        if m == 0:
            return legendre
        return np.sqrt(2) * legendre * (np.cos(order * phi) if m > 0 else np.sin(order * phi))

    order = [(0, 0), (1, -1), (1, 0), (1, 1), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]
    return np.stack([real(l, m) for l, m in order], axis=-1)


def test_basis_is_scipys():
    directions, _ = sphere_quadrature(9)
    np.testing.assert_allclose(lighting.sh_basis(jnp.asarray(directions)), real_harmonics(directions), atol=2e-6)


def test_shading_is_the_integral_of_clamped_cosine_times_light():
    rng = np.random.default_rng(1)
    light = rng.normal(size=(9, 3))
    normals = rng.normal(size=(7, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    directions, weights = sphere_quadrature(200)
    radiance = real_harmonics(directions) @ light
    cosine = np.maximum(normals @ directions.T, 0)
    expected = (cosine * weights) @ radiance
    shaded = lighting.shade(jnp.asarray(normals, jnp.float32), jnp.asarray(light, jnp.float32))
    np.testing.assert_allclose(shaded, expected, atol=2e-3)


def test_uniform_light_gives_pi_everywhere():
    directions, weights = sphere_quadrature()
    light = real_harmonics(directions).T @ (weights[:, None] * np.ones((1, 3)))
    shaded = lighting.shade(jnp.asarray(directions[:50], jnp.float32), jnp.asarray(light, jnp.float32))
    np.testing.assert_allclose(shaded, np.pi, rtol=1e-5)


def test_all_components_reproduce_mean_and_covariance():
    rng = np.random.default_rng(2)
    environments = rng.normal(size=(200, 9, 3)) * rng.uniform(0.1, 2, (9, 3)) + rng.normal(size=(9, 3))
    prior = lighting.fit_light_prior(environments, 27)
    flat, basis = environments.reshape(200, 27), np.asarray(prior.basis).reshape(27, 27)
    np.testing.assert_allclose(prior.mean, environments.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(basis.T @ basis, np.cov(flat, rowvar=False), atol=1e-4)
    largest = np.abs(basis).argmax(axis=1)
    assert (basis[np.arange(27), largest] > 0).all()


def test_coefficients_are_linear_in_the_weights():
    prior = lighting.default_light_prior(5)
    weights = np.random.default_rng(3).normal(size=(2, 4, 5)).astype(np.float32)
    expected = np.asarray(prior.mean) + np.einsum("abp,phc->abhc", weights, np.asarray(prior.basis))
    np.testing.assert_allclose(lighting.coefficients(prior, jnp.asarray(weights)), expected, atol=1e-5)


@pytest.mark.parametrize("components", [0, 28])
def test_impossible_numbers_of_components_are_refused(components):
    with pytest.raises(ValueError, match="components"):
        lighting.default_light_prior(components)


def test_default_prior_is_soft_light_of_unit_strength_from_above_and_in_front():
    prior = lighting.default_light_prior(9)
    directions, weights = sphere_quadrature(20)
    front = directions[:, 2] > 0
    shaded = np.asarray(lighting.shade(jnp.asarray(directions, jnp.float32), prior.mean))
    assert np.average(shaded[front].mean(axis=-1), weights=weights[front]) == pytest.approx(1.0, abs=0.05)
    brightest = directions[shaded.mean(axis=-1).argmax()]
    assert brightest[1] > 0.2
    assert brightest[2] > 0.5
    assert abs(brightest[0]) < 0.2
    assert shaded.min() > 0  # the mean light leaves nothing black


def test_random_draws_of_the_default_prior_are_plausible_light():
    prior = lighting.default_light_prior(9)
    directions, _ = sphere_quadrature(20)
    front = jnp.asarray(directions[directions[:, 2] > 0], jnp.float32)
    weights = np.random.default_rng(4).normal(size=(200, 9)).astype(np.float32)
    shaded = np.asarray(lighting.shade(front, lighting.coefficients(prior, jnp.asarray(weights))))
    assert (shaded > 0).mean() > 0.97
    strength = shaded.mean(axis=(1, 2))
    assert 0.2 < strength.std() < 0.6


def test_ambient_light_leaves_the_albedo_as_it_is():
    directions, _ = sphere_quadrature(5)
    light = lighting.coefficients(lighting.ambient_light_prior(4), jnp.array([3.0, -1.0, 0.5, 2.0]))
    np.testing.assert_allclose(lighting.shade(jnp.asarray(directions, jnp.float32), light), 1.0, rtol=1e-6)
