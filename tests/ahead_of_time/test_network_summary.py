"""The summary's numbers against counts by hand, and its parts for the paper's configuration without any asset."""

import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from sheap_jax import config_files
from sheap_jax.ahead_of_time import network_summary

ROOT = Path(__file__).parents[2]


def test_parameters_and_flops_of_a_dense_layer():
    cost = network_summary.measure(
        network_summary.part("dense", nn.Dense(48), jax.ShapeDtypeStruct((20, 32), jnp.float32))
    )
    assert cost.parameters == 32 * 48 + 48
    assert cost.flops == pytest.approx(2 * 20 * 32 * 48, rel=0.1)  # and a bias
    assert "1,584" in network_summary.table([cost])


def test_the_papers_parts_are_there_without_their_files():
    config = config_files.load_file(ROOT / "configs/base.py")
    sizes, notes = network_summary.head_of(config)
    parts, more = network_summary.parts_of(config, sizes)
    counts = {part.name: sum(leaf.size for leaf in jax.tree.leaves(part.params)) for part in parts}
    assert list(counts) == ["estimator", "DINOv2", "UV generator", "graph network", "LPIPS"]
    assert counts["DINOv2"] == 86_580_480 - 768  # the published count without its mask token
    assert counts["LPIPS"] == 14_714_688 + 1472  # torchvision's vgg16.features and the linear layers
    assert len(notes + more) == 2
    context = parts[2].inputs[1]
    assert context.shape == (1, 256, 768)
    ablation = dataclasses.replace(config, regressor=dataclasses.replace(config.regressor, kind="mlp"))
    (regressor,) = network_summary.regressor_parts(ablation, sizes, *parts[2].inputs)
    assert regressor.name == "regressor (mlp)"


def test_a_missing_configuration_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.py"):
        network_summary.main([str(ROOT / "configs/nowhere.py")])
