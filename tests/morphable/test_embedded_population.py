"""The population's coefficients have the statistics that the morphable model promises."""

import numpy as np
import pytest

from sheap_jax.morphable.embedded.identity import identity_names
from sheap_jax.morphable.embedded.population import LOADINGS, draw_population, draw_shape

NAMES = identity_names()


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    factors = [draw_population(rng) for _ in range(6000)]
    return np.array(factors), np.array([draw_shape(person, NAMES, rng) for person in factors])


def test_every_loading_belongs_to_a_mode_and_leaves_room_for_the_individual():
    assert set(LOADINGS) <= set(NAMES)
    assert max(np.sum(np.square(loading)) for loading in LOADINGS.values()) < 0.8


def test_coefficients_have_mean_zero_and_variance_one(people):
    _, shapes = people
    np.testing.assert_allclose(shapes.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(shapes.var(axis=0), 1, atol=0.1)


def test_factors_correlate_with_modes_as_loaded(people):
    factors, shapes = people
    found = np.corrcoef(factors.T, shapes.T)[:4, 4:]
    expected = np.array([LOADINGS.get(name, (0.0,) * 4) for name in NAMES]).T
    np.testing.assert_allclose(found, expected, atol=0.06)
