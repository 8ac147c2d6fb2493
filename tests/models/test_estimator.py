"""The estimator's first prediction, its gradients and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.models.estimator import HeadEstimator, nonnegative

ESTIMATOR = HeadEstimator(
    num_shape=6,
    num_expression=5,
    num_light=4,
    num_joints=5,
    free_joints=(0, 2),
    feature_dim=8,
    patch=8,
    width=16,
    depth=1,
    heads=2,
    grid=2,
    head_width=12,
    translation_mean=(0.0, 0.01, -0.05),
)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16, 16, 3)), jnp.float32)


apply = jax.jit(ESTIMATOR.apply)


@pytest.fixture(scope="module")
def params():
    return jax.jit(ESTIMATOR.init)(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def trained(params):
    """Parameters whose last layers are no longer zero."""
    noise = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.2 * noise.normal(size=x.shape).astype(np.float32), params)


def test_first_prediction_is_the_mean_head_in_front_of_the_camera(params):
    estimate = apply(params, IMAGES).estimate
    for zero in (estimate.head.shape, estimate.head.expression, estimate.head.rotations, estimate.light):
        assert (zero == 0).all()
    np.testing.assert_allclose(estimate.head.translation, np.tile([0, 0.01, -0.05], (3, 1)), atol=1e-7)
    assert jnp.std(estimate.features, axis=0).min() > 0  # f differs between people from the start


def test_shapes_and_free_joints(trained):
    output = apply(trained, IMAGES)
    head, light, features = output.estimate
    shapes = [x.shape for x in (*head, light, features, output.patch_tokens)]
    assert shapes == [(3, 6), (3, 5), (3, 5, 3), (3, 3), (3, 4), (3, 8), (3, 4, 16)]
    moved = np.abs(head.rotations).min(axis=(0, 2)) > 0
    np.testing.assert_array_equal(moved, [True, False, True, False, False])


def test_every_head_learns_from_the_first_step(params):
    """Zero last layers pass no gradient further in, but get one themselves; after one step all parameters do."""

    def loss(p):
        estimate = ESTIMATOR.apply(p, IMAGES).estimate
        return sum(jnp.sum((x - 0.1) ** 2) for x in jax.tree.leaves(estimate))

    gradient = jax.jit(jax.grad(loss))
    first = gradient(params)
    for name in ("shape", "expression", "pose", "light", "features"):
        assert jnp.abs(first["params"][f"{name}_head"]["out"]["kernel"]).max() > 0
    second = gradient(jax.tree.map(lambda p, g: p - 0.01 * g, params, first))
    for path, leaf in jax.tree_util.tree_leaves_with_path(second["params"]):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        if "['key']['bias']" not in name:  # softmax does not see what all keys share
            assert jnp.abs(leaf).max() > 0, name


def test_expressions_can_be_kept_nonnegative(params, trained):
    ramped = ESTIMATOR.clone(nonnegative_expression=True)
    apply_ramped = jax.jit(ramped.apply)
    assert apply_ramped(trained, IMAGES).estimate.head.expression.min() > 0
    assert apply_ramped(params, IMAGES).estimate.head.expression.max() < 0.05
    assert apply(trained, IMAGES).estimate.head.expression.min() < 0
    np.testing.assert_allclose(nonnegative(jnp.array([-5.0, 1.0, 2.0])), [0, 0.9, 1.9], atol=1e-3)


def test_bfloat16_gives_float32_outputs_close_to_float32(trained):
    full = apply(trained, IMAGES)
    half = jax.jit(ESTIMATOR.clone(dtype=jnp.bfloat16).apply)(trained, IMAGES)
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(half), strict=True):
        assert b.dtype == jnp.float32
        assert jnp.abs(a - b).max() < 0.05 * (1 + jnp.abs(a).max())


def test_the_papers_size_has_the_papers_parameters():
    """ViT-B/16 at 224 pixels: 85.8 million parameters without its class token, plus five tokens and heads."""
    paper = HeadEstimator(num_shape=300, num_expression=100, num_light=16, num_joints=5)
    shapes = jax.eval_shape(paper.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    count = sum(x.size for x in jax.tree.leaves(shapes["vit"]))
    encoder = 12 * (4 * 768 * 769 + 768 * 3072 * 2 + 3072 + 768 + 4 * 768) + 2 * 768
    assert count == encoder + 768 * (768 + 1) + 196 * 768 + 5 * 768
