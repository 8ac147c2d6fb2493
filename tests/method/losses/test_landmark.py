import jax.numpy as jnp
import numpy as np

from sheap_jax.method.losses.landmark import landmark_error, landmark_weights


def test_error_is_a_fraction_of_the_image_side():
    projected = jnp.zeros((2, 68, 2)).at[1, 5].set(jnp.array([12.8, -25.6]))
    error = landmark_error(projected, jnp.zeros((2, 68, 2)), image_size=128)
    assert error.shape == (2, 68)
    np.testing.assert_allclose(error[1, 5], 0.3, rtol=1e-6)
    assert float(error.sum()) == float(error[1, 5])


def test_weights_separate_the_contour_and_keep_undetected_landmarks_out():
    detected = jnp.ones((68,)).at[jnp.array([3, 40])].set(0.0)
    weights = np.asarray(landmark_weights(detected, contour=0.5))
    assert weights[3] == weights[40] == 0
    assert set(np.delete(weights[:17], 3)) == {0.5}
    assert set(np.delete(weights[17:], 40 - 17)) == {1.0}


def test_the_mouth_has_a_weight_of_its_own():
    """iBUG's mouth is 48-67. The default leaves the detector's weights as they are, to the last bit."""
    detected = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 68)), jnp.float32)
    np.testing.assert_array_equal(landmark_weights(detected), detected)
    factor = landmark_weights(jnp.ones(68), contour=0.5, mouth=0.25)
    np.testing.assert_array_equal(factor, [0.5] * 17 + [1.0] * 31 + [0.25] * 20)
    assert not landmark_weights(detected, mouth=0.0)[:, 48:].any()


def test_gradient(assert_gradient):
    rng = np.random.default_rng(0)
    detected = jnp.asarray(rng.normal(size=(2, 68, 2)) * 20)
    assert_gradient(lambda p: landmark_error(p, detected, image_size=64), rng.normal(size=(2, 68, 2)) * 20)
