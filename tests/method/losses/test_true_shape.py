import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from sheap_jax.method.losses.true_shape import TrueShapes, true_shape_error


def test_it_is_the_distance_between_two_nearly_flat_surfaces():
    """Modes that move a plane along its normal, seen by nearest neighbours on a dense sampling of the true plane."""
    rng = np.random.default_rng(0)
    side = np.linspace(-1, 1, 9)
    plane = np.stack([*np.meshgrid(side, side), np.zeros((9, 9))], axis=-1).reshape(-1, 3)
    modes = np.stack([np.full(81, 0.002), 1e-5 * plane[:, 0], 1e-5 * plane[:, 1]])  # a lift and two slight tilts
    shapes = rng.normal(size=(4, 3))
    predicted, records = rng.normal(size=(2, 3)), np.array([3, 1])
    error = true_shape_error(jnp.asarray(predicted), jnp.asarray(records), TrueShapes(jnp.asarray(shapes), modes))

    fine = np.linspace(-1.5, 1.5, 601)
    points = np.stack([*np.meshgrid(fine, fine), np.zeros((601, 601))], axis=-1).reshape(-1, 3)
    for k, record in enumerate(records):
        slopes = np.array([1e-5, 1e-5])
        truth = (
            points + [0, 0, 1] * (0.002 * shapes[record, 0] + points[:, :2] @ (slopes * shapes[record, 1:]))[:, None]
        )
        guess = plane + [0, 0, 1] * (modes.T @ predicted[k])[:, None]
        np.testing.assert_allclose(cKDTree(truth).query(guess)[0] ** 2, error[k], rtol=1e-3)


def test_gradient(assert_gradient):
    rng = np.random.default_rng(1)
    truth = TrueShapes(jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(3, 7))))
    assert_gradient(lambda predicted: true_shape_error(predicted, jnp.array([0, 4]), truth), rng.normal(size=(2, 3)))
