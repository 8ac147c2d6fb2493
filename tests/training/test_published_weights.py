"""A run that names published weights: where they go, what they change, what is said when they are absent."""

import dataclasses
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax import assembly, config
from sheap_jax.method import reanimation
from sheap_jax.method.objective import _photometric_terms
from sheap_jax.models import build
from sheap_jax.models.convert.dinov2 import convert_dinov2
from sheap_jax.models.convert.farl import convert_farl
from sheap_jax.models.convert.lpips import convert_lpips
from sheap_jax.models.convert.sheap import convert_sheap
from sheap_jax.models.convert.vit_tables import VitSize
from sheap_jax.models.weights import flatten, save_weights
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start
from sheap_jax.types import Frame
from tests.models import published_names as published

SIZES = {"width": 64, "depth": 1, "grid": 3}


def draw(shapes: published.Shapes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def weights(tmp_path) -> config.Weights:
    """Converted weights of tiny networks."""
    stages = ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    vgg = published.vgg16((2,) * 13) | published.lpips_linear((2,) * 5)
    farl = convert_farl(draw(published.farl_checkpoint(**SIZES)), size=VitSize(16, **SIZES))
    dinov2 = convert_dinov2(draw(published.dinov2_hub(**SIZES)), sizes=(VitSize(14, **SIZES),))
    lpips = convert_lpips(draw(vgg), stages=stages)
    for name, converted in (("estimator", farl), ("dinov2", dinov2), ("lpips", lpips)):
        save_weights(tmp_path / f"{name}.npz", converted.weights)
    return config.Weights(*(str(tmp_path / f"{name}.npz") for name in ("estimator", "dinov2", "lpips")))


@pytest.fixture
def pretrained(tiny_config, weights) -> config.Config:
    estimator = dataclasses.replace(tiny_config.estimator, style="farl", width=64, heads=1)
    return dataclasses.replace(tiny_config, weights=weights, estimator=estimator)


def parts(settings):
    model = load_morphable(settings.morphable)
    return assembly.build_assets(settings, model), assembly.build_networks(settings, model)


def test_the_terms_and_the_context_are_those_of_the_weights(pretrained):
    assets, networks = parts(pretrained)
    params = jax.eval_shape(lambda: start.initial_state(pretrained, networks, assets)).params
    assert params.keys() == {"estimator", "regressor"}  # frozen networks are no parameters of the optimiser
    assert assets.frozen.keys() == {"dinov2", "lpips"}
    attention = params["regressor"]["uv_generator"]["attention_8"]["attention"]
    assert attention["key"]["kernel"].shape[0] == 64
    image = jnp.zeros((1, 48, 48, 3))
    resize = jax.eval_shape(lambda: reanimation.context_tokens(networks, assets, image, None))
    assert resize.shape == (1, 9, 64)  # 48 pixels become 42, three patches a side


def test_the_perceptual_term_sees_the_rendering(pretrained):
    """Traced, not computed: the network itself is tested by test_parity."""
    assets, networks = parts(pretrained)
    target = Frame(jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, 68, 2)), jnp.ones((2, 68)))

    def terms(color, mask):
        rendering = SimpleNamespace(surfels=SimpleNamespace(color=color), mesh=SimpleNamespace(mask=mask))
        found = _photometric_terms(rendering, target, networks, assets, pretrained.losses)
        return {name: term._replace(weight=jnp.float32(term.weight)) for name, term in found.items()}

    found = jax.eval_shape(terms, target.image, jnp.ones((2, 32, 32), bool))
    assert found["perceptual"].values.shape == found["perceptual"].mask.shape == (2, 32, 32)


def test_the_estimator_starts_from_the_weights(pretrained, weights):
    assets, networks = parts(pretrained)
    shapes = jax.eval_shape(lambda: start.initial_state(pretrained, networks, assets)).params["estimator"]
    own = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    started = flatten(build.pretrained_estimator(weights.estimator, own))
    published_tensors = draw(published.farl_checkpoint(**SIZES))
    kernel = published_tensors["state_dict.visual.transformer.resblocks.0.mlp.c_fc.weight"].T
    np.testing.assert_array_equal(started["vit/block_0/mlp_in/kernel"], kernel)
    assert started["vit/positions"].shape == own["vit"]["positions"].shape
    for name, value in started.items():
        fresh = name.split("/")[0] != "vit" or name == "vit/extra_tokens"
        assert (np.abs(value).max() == 0) == fresh, name


def test_the_official_releases_heads_are_taken_too(pretrained, tmp_path):
    shapes = published.clip_visual("encoder.", **SIZES) | {"tokens.extra_token": (5, 64)}
    converted = convert_sheap(draw(shapes), size=VitSize(16, **SIZES))
    save_weights(tmp_path / "sheap.npz", converted.weights)
    assets, networks = parts(pretrained)
    own = jax.eval_shape(lambda: start.initial_state(pretrained, networks, assets)).params["estimator"]
    own = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), own)
    started = build.pretrained_estimator(tmp_path / "sheap.npz", own)
    np.testing.assert_array_equal(started["vit"]["extra_tokens"], draw(shapes)["tokens.extra_token"])


def test_without_weights_the_term_is_off_and_this_is_said_once(tiny_config, caplog):
    build._say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        parts(tiny_config)
        assets, networks = parts(tiny_config)
    assert caplog.text.count("without the perceptual term") == 1
    assert networks.lpips is networks.dinov2 is None
    assert not assets.frozen


def test_weights_that_cannot_be_used_are_refused(pretrained, weights):
    change = dataclasses.replace
    with pytest.raises(FileNotFoundError, match=r"gone\.npz.*sheap convert dinov2"):
        parts(change(pretrained, weights=change(weights, dinov2="gone.npz")))
    with pytest.raises(ValueError, match="style='farl'"):
        parts(change(pretrained, estimator=change(pretrained.estimator, style="plain")))
    with pytest.raises(ValueError, match="must be one of plain, farl"):
        parts(change(pretrained, estimator=change(pretrained.estimator, style="clip")))
    for field, value in (("depth", 2), ("heads", 2)):  # shapes alone would not tell
        other = change(pretrained, estimator=change(pretrained.estimator, **{field: value}))
        with pytest.raises(ValueError, match=rf"another size: config\.estimator\.{field} is {value}, not 1"):
            build.check_estimator_weights(other, {})
    with pytest.raises(ValueError, match=r"estimator\.npz does not fit this network: .*\(64"):
        build.pretrained_estimator(weights.estimator, {"vit": {"positions": np.zeros((2, 2, 64))}})
