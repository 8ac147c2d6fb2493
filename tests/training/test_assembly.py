"""Whether a configuration fits to its morphable model is said before a run computes anything."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from sheap_jax import assembly
from sheap_jax.commands.train import train
from sheap_jax.config_files import ConfigError
from sheap_jax.method import reanimation
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.morphable.storage import save_model
from sheap_jax.training import start
from tests.training.conftest import ellipsoid


@pytest.fixture
def without_uv(tiny_config, tmp_path):
    model = ellipsoid()
    save_model(model.replace(uv=model.uv[:0], uv_faces=model.uv_faces[:0]), tmp_path / "no_uv.npz")
    return dataclasses.replace(tiny_config, morphable=str(tmp_path / "no_uv.npz"))


@pytest.mark.parametrize("kind", ["graph", "cnn"])
def test_painting_in_a_chart_needs_one(without_uv, kind):
    config = dataclasses.replace(without_uv, regressor=dataclasses.replace(without_uv.regressor, kind=kind))
    with pytest.raises(ConfigError, match=r"no_uv\.npz has no texture coordinates.*head_template\.obj"):
        assembly.build_networks(config, load_morphable(config.morphable))


def test_a_regressor_without_maps_needs_no_chart(without_uv):
    config = dataclasses.replace(without_uv, regressor=dataclasses.replace(without_uv.regressor, kind="mlp"))
    model = load_morphable(config.morphable)
    assets, networks = assembly.build_assets(config, model), assembly.build_networks(config, model)
    state = jax.eval_shape(lambda assets: start.initial_state(config, networks, assets), assets)
    assert "mlp" in state.params["regressor"]
    anchors = reanimation.uv_anchors(model, init_prototypes(model.faces.shape[0], per_face=1))
    np.testing.assert_array_equal(anchors, np.zeros((model.faces.shape[0], 2)))


def test_a_model_that_cannot_be_used_is_an_error_of_the_configuration(tmp_path):
    (tmp_path / "model.npz").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"model\.npz"):
        load_morphable(str(tmp_path / "model.npz"))


def test_nothing_is_made_for_a_run_that_cannot_start(without_uv):
    with pytest.raises(ConfigError, match=r"no_uv\.npz"):
        train(without_uv)
    assert not Path(without_uv.log.directory).exists()
