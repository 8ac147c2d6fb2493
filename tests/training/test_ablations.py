"""The switches of the ablations change what a training step does, and it still learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax import assembly
from sheap_jax.data.pairs import pair_batches
from sheap_jax.method import lighting
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import sharding, start
from sheap_jax.training.step import make_step


@pytest.mark.slow
def test_a_step_with_ellipsoids_cnn_isotropic_binding_and_without_light(module_config):
    regressor = dataclasses.replace(module_config.regressor, kind="cnn", isotropic=True)
    config = dataclasses.replace(module_config, primitive="ellipsoids", light="none", regressor=regressor)
    model = load_morphable(config.morphable)
    assets, networks = assembly.build_assets(config, model), assembly.build_networks(config, model)
    state = start.initial_state(config, networks, assets)
    first = jax.tree.map(lambda x: x.copy(), state.params)
    settings = assembly.render_settings(config)
    step = make_step(networks, start.build_optimizers(config), config.losses, settings, rendered=True)
    with pair_batches(config.data.directory, split="train", batch_size=2, image_size=32, seed=0) as batches:
        for _ in range(4):
            state, report = step(state, assets, sharding.shard_batch(next(batches), None))
    assert bool(report.applied)
    # Every loss of the method is reported by itself.
    losses = {name.removeprefix("loss/") for name in report.metrics if name.startswith("loss/")}
    assert losses >= {
        "landmarks_source", "landmarks_target", "l1", "ssim", "gradient", "normal", "depth",
        "shape", "expression", "offset", "scale",
    }  # fmt: skip
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first, state.params)
    assert np.mean(np.array(jax.tree.leaves(moved["regressor"])) > 0) > 0.8
    # Light has no say: its head moves by weight decay alone, where there is a gradient it moves with the others.
    assert moved["estimator"]["light_head"]["out"]["bias"] == 0
    assert moved["estimator"]["shape_head"]["out"]["bias"] > 0


def test_a_primitive_that_does_not_exist_is_named(module_config):
    with pytest.raises(ValueError, match=r"config\.primitive.*surfels, ellipsoids"):
        assembly.render_settings(dataclasses.replace(module_config, primitive="cubes"))


def test_the_light_prior_is_the_one_that_is_named(tmp_path):
    """ "none", our own, or a folder of the Basel Illumination Prior; a folder without one says what to download."""
    assert float(jnp.abs(assembly.light_prior("none", 3).basis).max()) == 0
    np.testing.assert_array_equal(assembly.light_prior("generated", 3).basis, lighting.default_light_prior(3).basis)
    with pytest.raises(FileNotFoundError, match="Basel Illumination Prior"):
        assembly.light_prior(str(tmp_path), 3)
