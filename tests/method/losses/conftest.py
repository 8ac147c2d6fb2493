"""Finite differences in float64: the independent truth for every gradient of this folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads


@pytest.fixture
def x64():
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def assert_gradient(x64):
    """Compare reverse-mode gradients of an unreduced loss with central differences along random directions.

    Values are weighed by random numbers, so that errors of single elements cannot cancel, and the gradient must not be
    zero: a loss that ignores its input would pass any comparison of differences.
    """

    def check(function, *arguments):
        arguments = [jnp.asarray(argument, jnp.float64) for argument in arguments]
        shape = jax.eval_shape(function, *arguments).shape
        weights = np.random.default_rng(7).uniform(0.5, 1.5, shape)

        @jax.jit
        def weighed(*values):
            return jnp.sum(function(*values) * weights)

        check_grads(weighed, tuple(arguments), order=1, modes=["rev"], eps=1e-6, atol=1e-6, rtol=1e-6)
        for gradient in jax.jit(jax.grad(weighed, argnums=tuple(range(len(arguments)))))(*arguments):
            assert float(jnp.abs(gradient).max()) > 0

    return check
