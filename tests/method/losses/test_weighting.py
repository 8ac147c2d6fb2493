import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax.method.losses.weighting import LossTerm, masked_mean, weigh


def test_masked_mean_equals_numpy_average_and_ignores_masked_nan():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    np.testing.assert_allclose(
        masked_mean(jnp.asarray(values), jnp.asarray(mask)), np.average(values, weights=mask), rtol=1e-6
    )
    mask[1, 2], values[1, 2] = 0, np.nan
    np.testing.assert_allclose(
        masked_mean(jnp.asarray(values), jnp.asarray(mask)), np.average(np.nan_to_num(values), weights=mask), rtol=1e-6
    )


def test_nan_that_counts_reaches_the_mean():
    assert np.isnan(masked_mean(jnp.array([1.0, jnp.nan]), jnp.array([1.0, 0.1])))
    assert np.isnan(masked_mean(jnp.array([1.0, jnp.nan]), None))


def test_an_empty_mask_gives_zero_and_a_zero_gradient():
    value, gradient = jax.value_and_grad(lambda x: masked_mean(x, jnp.zeros(2)))(jnp.array([1.0, jnp.inf]))
    assert float(value) == 0
    assert gradient.tolist() == [0, 0]


def test_mask_broadcasts_as_one_weight_per_value():
    values = jnp.array([[1.0, 3.0], [5.0, 7.0]])
    assert float(masked_mean(values, jnp.array([[True], [False]]))) == 2.0


def test_weigh_sums_weight_times_mean_and_reports_unweighed_means():
    terms = {
        "l1": LossTerm(jnp.array([1.0, 3.0]), 10.0),
        "landmark": LossTerm(jnp.array([4.0, 8.0]), 0.5, jnp.array([0.0, 1.0])),
    }
    loss = weigh(terms)
    assert float(loss.total) == 24.0
    assert {name: float(mean) for name, mean in loss.means.items()} == {"l1": 2.0, "landmark": 8.0}


def test_gradient(assert_gradient):
    rng = np.random.default_rng(1)
    mask = jnp.asarray(rng.uniform(size=(2, 5)) * (rng.uniform(size=(2, 5)) > 0.4))
    assert_gradient(
        lambda a, b: weigh({"a": LossTerm(a**2, 0.3, mask), "b": LossTerm(jnp.abs(b), 2.0)}).total,
        rng.normal(size=(2, 5)), rng.normal(size=(3,)),
    )  # fmt: skip
