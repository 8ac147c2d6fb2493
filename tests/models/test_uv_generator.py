"""The UV generator, and sampling of its maps against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.ndimage import map_coordinates

from sheap_jax.models.uv_generator import UvGenerator, sample_uv
from tests.models.random_params import random_params

GENERATOR = UvGenerator(size=32, channels=6, widest=16, attention_size=4, heads=2)
FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 10)), jnp.float32)
CONTEXT = jnp.asarray(np.random.default_rng(1).normal(size=(2, 7, 12)), jnp.float32)


PARAMS = random_params(GENERATOR.init, FEATURES, CONTEXT)
apply = jax.jit(GENERATOR.apply)


def test_samples_are_scipys_bilinear_ones():
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    uv = np.concatenate([rng.uniform(size=(50, 2)), [[0, 0], [1, 1], [0.5 / 8, 0.5 / 8], [0.97, 0.02]]])
    samples = jax.jit(sample_uv)(jnp.asarray(maps), jnp.asarray(uv, jnp.float32))
    rows_columns = (uv[:, ::-1] * 8 - 0.5).T
    for image in range(2):
        for channel in range(3):
            expected = map_coordinates(maps[image, :, :, channel], rows_columns, order=1, mode="nearest")
            np.testing.assert_allclose(samples[image, :, channel], expected, atol=1e-5)


def test_sampling_gradient():
    rng = np.random.default_rng(3)
    maps = jnp.asarray(rng.normal(size=(2, 4, 4, 2)), jnp.float32)
    uv = jnp.asarray((np.floor(rng.uniform(size=(20, 2)) * 4) + rng.uniform(0.1, 0.4, (20, 2))) / 4, jnp.float32)
    weights = jnp.asarray(rng.normal(size=(2, 20, 2)), jnp.float32)
    check_grads(
        jax.jit(lambda maps, uv: jnp.sum(weights * sample_uv(maps, uv))),
        (maps, uv), order=1, modes=["rev"], eps=1e-3, atol=2e-2, rtol=2e-2,
    )  # fmt: skip


def test_map_has_the_wanted_shape_and_depends_on_both_inputs():
    result = apply(PARAMS, FEATURES, CONTEXT)
    assert result.shape == (2, 32, 32, 6)
    assert result.dtype == jnp.float32
    assert jnp.abs(result - apply(PARAMS, 1.5 * FEATURES, CONTEXT)).max() > 1e-2
    assert jnp.abs(result - apply(PARAMS, FEATURES, jnp.flip(CONTEXT, axis=-1))).max() > 1e-3


def test_order_of_context_tokens_does_not_matter():
    shuffled = apply(PARAMS, FEATURES, CONTEXT[:, jnp.array([3, 1, 0, 6, 5, 4, 2])])
    np.testing.assert_allclose(apply(PARAMS, FEATURES, CONTEXT), shuffled, atol=1e-4)


def test_every_parameter_gets_a_gradient():
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(GENERATOR.apply(p, FEATURES, CONTEXT) ** 2)))(PARAMS)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        if "key" in jax.tree_util.keystr(path) and "bias" in jax.tree_util.keystr(path):
            continue  # softmax does not see what all keys share
        assert jnp.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_bfloat16_stays_close():
    half = GENERATOR.clone(dtype=jnp.bfloat16)
    full = apply(PARAMS, FEATURES, CONTEXT)
    result = jax.jit(half.apply)(PARAMS, FEATURES, CONTEXT)
    assert result.dtype == jnp.float32
    assert jnp.sqrt(jnp.mean((result - full) ** 2)) < 0.05 * jnp.std(full)


def test_a_size_that_cannot_be_doubled_up_to_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        UvGenerator(size=48, channels=6).init(jax.random.key(0), FEATURES, CONTEXT)
