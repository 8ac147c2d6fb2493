"""The jitted step: what it changes, what it must not, and that devices do not matter."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sheap_jax import assembly
from sheap_jax.data.pairs import pair_batches
from sheap_jax.method.objective import needs_rendering
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import sharding, start
from sheap_jax.training.densify import make_densify
from sheap_jax.training.step import make_step


@pytest.fixture(scope="module")
def shared(module_config):
    """(state, assets, batch, step function) of the tiny configuration, everything rendered; compiled once."""
    model = load_morphable(module_config.morphable)
    assets = assembly.build_assets(module_config, model)
    networks = assembly.build_networks(module_config, model)
    state = start.initial_state(module_config, networks, assets)
    with pair_batches(
        module_config.data.directory, split="train", batch_size=2, image_size=module_config.image_size, seed=0
    ) as batches:
        batch = sharding.shard_batch(next(batches), None)
    step = make_step(
        networks,
        start.build_optimizers(module_config),
        module_config.losses,
        assembly.render_settings(module_config),
        rendered=True,
    )
    return state, assets, batch, lambda state, assets, batch, limit=np.inf: step(state, assets, batch, limit)


@pytest.fixture
def run(shared):
    """`shared` with a state of its own: the step takes over its buffers."""
    state, *rest = shared
    return copy(state), *rest


def copy(tree):
    return jax.tree.map(lambda x: x.copy(), tree)


def test_first_prediction_is_the_mean_head_in_front_of_the_camera(run, module_config):
    from sheap_jax import morphable
    from sheap_jax.method import reanimation

    state, assets, batch, _ = run
    networks = assembly.build_networks(module_config, assets.model)
    pair = reanimation.estimate_pair(networks, state.params, assets, batch.source.image, batch.target.image)
    expected = np.broadcast_to(assets.model.template, pair.target.vertices.shape)
    np.testing.assert_allclose(pair.target.vertices, expected, atol=1e-6)
    assert morphable.mean_params(assets.model, 2).shape.shape == pair.target.params.shape.shape


def test_both_networks_learn_and_statistics_move(run):
    state, assets, batch, step = run
    first = copy(state)
    for _ in range(4):  # the rate starts at zero; then last layers move, which start at zero; then all
        state, report = step(state, assets, batch)
    assert bool(report.applied)
    assert bool(report.finite.all())
    for name in ("estimator", "regressor"):
        moved = [float(jnp.abs(a - b).max()) for a, b in zip(
            jax.tree.leaves(first.params[name]), jax.tree.leaves(state.params[name]), strict=True
        )]  # fmt: skip
        assert np.mean(np.array(moved) > 0) > 0.8, name
    assert float(jnp.max(state.prototypes.gradient_norm)) > 0
    assert int(state.step) == 4


@pytest.mark.slow
def test_pictures_teach_the_geometry(run, module_config):
    """With every term but the photometric ones off, shape and pose of the estimator still get gradients."""
    from sheap_jax.method.objective import full_objective

    state, assets, batch, _ = run
    off = {f.name: 0.0 for f in dataclasses.fields(module_config.losses)}
    weights = dataclasses.replace(module_config.losses, **(off | {"l1": 1.0}))
    networks = assembly.build_networks(module_config, assets.model)
    probe = jnp.zeros((2, state.prototypes.parent_face.shape[0], 2))
    settings = assembly.render_settings(module_config)
    gradient = jax.jit(
        jax.grad(
            lambda params: full_objective(params, probe, networks, assets, state.prototypes, batch, weights, settings)[
                0
            ]
        )
    )(state.params)
    for head in ("shape_head", "pose_head", "expression_head", "light_head"):
        assert float(jnp.abs(gradient["estimator"][head]["out"]["bias"]).max()) > 0, head


def test_a_step_that_is_not_finite_changes_nothing(run):
    state, assets, batch, step = run
    before = copy(state)
    image = np.array(batch.target.image)
    image[1] = np.nan
    state, report = step(state, assets, batch._replace(target=batch.target._replace(image=image)))
    assert not bool(report.applied)
    assert_nothing_learned(before, state)
    np.testing.assert_array_equal(report.sound, [True, False])
    np.testing.assert_array_equal(report.records, batch.record)


def test_a_loss_above_the_limit_changes_nothing(run):
    state, assets, batch, step = run
    before = copy(state)
    state, report = step(state, assets, batch, 1e-3)
    assert float(report.metrics["loss"]) > 1e-3
    assert not bool(report.applied)
    assert_nothing_learned(before, state)


def assert_nothing_learned(before, state):
    for old, new in zip(
        jax.tree.leaves((before.params, before.opt_state, before.prototypes)),
        jax.tree.leaves((state.params, state.opt_state, state.prototypes)),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_an_accumulated_step_is_the_step_of_the_whole_batch(run, module_config):
    """On landmarks, whose terms have no masks that differ between the parts; of a rendered step the shapes."""
    state, assets, batch, _ = run
    networks, optimizers = assembly.build_networks(module_config, assets.model), start.build_optimizers(module_config)
    settings = assembly.render_settings(module_config)

    def make(**options):
        return make_step(networks, optimizers, module_config.losses, settings, **options)

    one, whole = make(rendered=False)(copy(state), assets, batch, np.inf)
    two, parts = make(rendered=False, accumulate=2)(copy(state), assets, batch, np.inf)
    for name, value in whole.metrics.items():
        np.testing.assert_allclose(parts.metrics[name], value, rtol=1e-5)
    moments = [jax.tree.leaves(result.opt_state["estimator"]) for result in (one, two)]
    for a, b in zip(*moments, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
    rendered = jax.eval_shape(make(rendered=True, accumulate=2), state, assets, batch, np.inf)
    assert jax.tree.map(jnp.shape, rendered[0]) == jax.tree.map(jnp.shape, state)
    assert rendered[1].finite.shape == (2,)
    assert rendered[1].overflow.shape == (2,)


def test_without_rendered_weights_nothing_is_rendered(run, module_config):
    """A step that asks for pictures is then the step on landmarks: same terms, same update, the regressor waits."""
    state, assets, batch, _ = run
    networks, optimizers = assembly.build_networks(module_config, assets.model), start.build_optimizers(module_config)
    rendered_terms = ("l1", "ssim", "gradient", "normal", "depth", "offset", "scale")  # no LPIPS: perceptual is off
    weights = dataclasses.replace(module_config.losses, **dict.fromkeys(rendered_terms, 0.0))
    settings = assembly.render_settings(module_config)
    steps = [make_step(networks, optimizers, weights, settings, rendered=rendered) for rendered in (True, False)]
    (one, pictures), (two, landmarks) = (step(copy(state), assets, batch, np.inf) for step in steps)
    assert pictures.metrics == landmarks.metrics
    assert "loss/l1" not in pictures.metrics
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)
    for term in rendered_terms:
        assert needs_rendering(dataclasses.replace(weights, **{term: 0.1}), networks), term


def test_same_seed_same_numbers(run):
    state, assets, batch, step = run
    other = copy(state)
    for _ in range(2):
        state, report = step(state, assets, batch)
        other, again = step(other, assets, batch)
    assert float(report.metrics["loss"]) == float(again.metrics["loss"])


def test_densify_adds_prototypes_with_fresh_moments(run):
    state, assets, batch, step = run
    for _ in range(4):
        state, _ = step(state, assets, batch)
    before = copy(state)
    state = make_densify(share=0.1)(state)
    fresh = np.asarray(state.prototypes.active & ~before.prototypes.active)
    assert fresh.sum() == 12  # a tenth of 120 slots
    flat, unravel = ravel_pytree(state.params["regressor"])
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state["regressor"]) if leaf.shape == flat.shape]
    assert len(moments) == 2  # Adam's first and second
    for vector in moments:
        rows = np.asarray(unravel(vector)["embedding"])
        assert np.abs(rows[fresh]).max() == 0
        assert np.abs(rows[np.asarray(before.prototypes.active)]).max() > 0
