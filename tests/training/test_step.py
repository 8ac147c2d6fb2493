"""The jitted step: what it changes, what it must not, and that devices do not matter."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sheap_jax.data.pairs import pair_batches
from sheap_jax.morphable.named import load_morphable
from sheap_jax.training import setup
from sheap_jax.training.densify import make_densify
from sheap_jax.training.step import make_step

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared(module_config):
    """(state, assets, batch, step function) of the tiny configuration, everything rendered; compiled once."""
    model = load_morphable(module_config.morphable)
    assets = setup.build_assets(module_config, model)
    networks = setup.build_networks(module_config, model)
    state = setup.initial_state(module_config, networks, assets)
    with pair_batches(
        module_config.data.directory, split="train", batch_size=2, image_size=module_config.image_size, seed=0
    ) as batches:
        batch = setup.shard(next(batches), None)
    step = make_step(
        networks,
        setup.build_optimizers(module_config),
        module_config.losses,
        setup.render_settings(module_config, None),
        rendered=True,
    )
    return state, assets, batch, step


@pytest.fixture
def run(shared):
    """`shared` with a state of its own: the step takes over its buffers."""
    state, *rest = shared
    return copy(state), *rest


def copy(tree):
    return jax.tree.map(lambda x: x.copy(), tree)


def test_first_prediction_is_the_mean_head_in_front_of_the_camera(run, module_config):
    from sheap_jax import morphable, reanimation

    state, assets, batch, _ = run
    networks = setup.build_networks(module_config, assets.model)
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


def test_pictures_teach_the_geometry(run, module_config):
    """With every term but the photometric ones off, shape and pose of the estimator still get gradients."""
    import dataclasses

    from sheap_jax.training.objective import full_objective

    state, assets, batch, _ = run
    off = {f.name: 0.0 for f in dataclasses.fields(module_config.losses)}
    weights = dataclasses.replace(module_config.losses, **(off | {"l1": 1.0}))
    networks = setup.build_networks(module_config, assets.model)
    probe = jnp.zeros((2, state.prototypes.parent_face.shape[0], 2))
    settings = setup.render_settings(module_config, None)
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
    for old, new in zip(
        jax.tree.leaves((before.params, before.opt_state, before.prototypes)),
        jax.tree.leaves((state.params, state.opt_state, state.prototypes)),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


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


DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
from sheap_jax import config_files
from sheap_jax.data.pairs import pair_batches
from sheap_jax.morphable.named import load_morphable
from sheap_jax.training import setup
from sheap_jax.training.step import make_step
config = config_files.load_json(sys.argv[1])
mesh = setup.device_mesh(config.batch_size)
model = load_morphable(config.morphable)
assets, networks = setup.build_assets(config, model), setup.build_networks(config, model)
state, assets = setup.replicate((setup.initial_state(config, networks, assets), assets), mesh)
settings = setup.render_settings(config, mesh)
step = make_step(networks, setup.build_optimizers(config), config.losses, settings, rendered=True)
with pair_batches(config.data.directory, split="train", batch_size=2, image_size=config.image_size, seed=0) as batches:
    for _ in range(3):
        state, report = step(state, assets, setup.shard(next(batches), mesh))
        print("LOSS", float(report.metrics["loss"]))
"""


def test_two_devices_give_the_numbers_of_one(tiny_config, tmp_path):
    from sheap_jax import config_files

    config_files.save_json(tiny_config, tmp_path / "config.json")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu"}
    losses = []
    for count in ("1", "2"):
        arguments = [sys.executable, "-c", DEVICES, str(tmp_path / "config.json"), count]
        result = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
        losses.append([float(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("LOSS")])
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
