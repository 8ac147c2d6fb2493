"""A run as shapes has the shapes of a run."""

import dataclasses

import jax
import jax.numpy as jnp

from sheap_jax import assembly
from sheap_jax.ahead_of_time.abstract_run import abstract_run
from sheap_jax.config import Weights
from sheap_jax.method.objective import full_objective
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start


def shapes(tree) -> list:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def test_shapes_are_those_of_the_real_run(tiny_config):
    model = load_morphable(tiny_config.morphable)
    assets, networks = assembly.build_assets(tiny_config, model), assembly.build_networks(tiny_config, model)
    run = abstract_run(tiny_config, batch_size=4)
    assert shapes(run.assets) == shapes(assets)
    assert shapes(run.state) == shapes(jax.eval_shape(lambda: start.initial_state(tiny_config, networks, assets)))
    assert run.notes == []


def test_what_is_not_there_has_the_published_sizes_and_a_note(tiny_config):
    weights = Weights(dinov2="nowhere/dinov2.npz", lpips="nowhere/lpips.npz")
    config = dataclasses.replace(tiny_config, morphable="nowhere/flame.npz", weights=weights)
    run = abstract_run(config, batch_size=2)
    assert run.assets.model.template.shape == (5023, 3)
    assert run.assets.frozen.keys() == {"dinov2", "lpips"}
    assert [note.split()[0] for note in run.notes] == ["nowhere/flame.npz", "nowhere/dinov2.npz"]
    # They fit together: the whole objective can be traced.
    probe = jax.ShapeDtypeStruct((2, *run.state.prototypes.parent_face.shape, 2), jnp.float32)
    loss, _ = jax.eval_shape(
        lambda *arrays: full_objective(
            *arrays[:2], run.networks, *arrays[2:], config.losses, assembly.render_settings(config)
        ),
        run.state.params, probe, run.assets, run.state.prototypes, run.batch,
    )  # fmt: skip
    assert loss.shape == ()
