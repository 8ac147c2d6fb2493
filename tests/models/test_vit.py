"""The transformer against an independent float64 version, and its parts against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from sheap_jax.models.patches import MergeStem, split_patches
from sheap_jax.models.positions import resize_positions, sine_positions
from sheap_jax.models.transformer import attend, gelu
from sheap_jax.models.vit import Vit
from tests.models.random_params import random_params

VIT = Vit(patch=4, width=16, depth=2, heads=2, grid=3, num_extra=2, mlp_ratio=2.0)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 12, 12, 3)), jnp.float32)


PARAMS = random_params(VIT.init, IMAGES)
apply = jax.jit(VIT.apply)


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def layer_norm(x, p):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attention(x, p, heads):
    """One head after the other."""
    query, key, value = (dense(x, p[name]) for name in ("query", "key", "value"))
    size = x.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax(query[:, part] @ key[:, part].T / np.sqrt(size), axis=-1)
        mixed.append(weights @ value[:, part])
    return dense(np.concatenate(mixed, axis=-1), p["out"])


def independent_vit(image, p):
    """Dosovitskiy et al., eq. 1-4, one image at a time in float64."""
    patches = [image[r : r + 4, c : c + 4].reshape(-1) for r in range(0, 12, 4) for c in range(0, 12, 4)]
    tokens = dense(np.array(patches), p["patch_embedding"]) + p["positions"].reshape(9, 16)
    tokens = np.concatenate([tokens, p["extra_tokens"]])
    for layer in range(2):
        block = p[f"block_{layer}"]
        tokens = tokens + attention(layer_norm(tokens, block["attention_norm"]), block["attention"], 2)
        hidden = dense(layer_norm(tokens, block["mlp_norm"]), block["mlp_in"])
        tokens = tokens + dense(0.5 * hidden * (1 + erf(hidden / np.sqrt(2))), block["mlp_out"])
    return layer_norm(tokens, p["norm"])


def test_forward_pass_is_the_papers():
    tokens = apply(PARAMS, IMAGES)
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMS["params"])
    for image in range(2):
        expected = independent_vit(np.asarray(IMAGES[image], np.float64), weights)
        np.testing.assert_allclose(tokens.patches[image], expected[:9], atol=2e-5)
        np.testing.assert_allclose(tokens.extra[image], expected[9:], atol=2e-5)


def test_patch_embedding_is_a_strided_convolution():
    kernel = np.random.default_rng(1).normal(size=(4, 4, 3, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(IMAGES, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    result = split_patches(IMAGES, 4) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(result, expected.reshape(2, 9, 5), atol=1e-5)


def test_remat_changes_nothing_but_memory():
    loss = lambda vit: jax.jit(jax.grad(lambda p: jnp.sum(vit.apply(p, IMAGES).extra ** 2)))(PARAMS)  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), loss(VIT), loss(VIT.clone(remat=True)))


def test_bfloat16_stays_close():
    full = apply(PARAMS, IMAGES)
    half = jax.jit(VIT.clone(dtype=jnp.bfloat16).apply)(PARAMS, IMAGES)
    assert half.patches.dtype == jnp.float32
    assert jnp.abs(full.extra - half.extra).max() < 0.1


def test_other_image_sizes_resize_the_positions():
    tokens = apply(PARAMS, jnp.ones((1, 20, 16, 3)))
    assert tokens.patches.shape == (1, 20, 16)
    with pytest.raises(ValueError, match="patches of 4"):
        VIT.apply(PARAMS, jnp.ones((1, 13, 12, 3)))


def test_resized_positions_keep_linear_fields():
    """Interpolation of a linear field is that field, away from the border."""
    rows, columns = np.meshgrid((np.arange(8) + 0.5) / 8, (np.arange(8) + 0.5) / 8, indexing="ij")
    resized = resize_positions(jnp.asarray(np.stack([rows, columns], -1), jnp.float32), 16, 12).reshape(16, 12, 2)
    expected = np.meshgrid((np.arange(16) + 0.5) / 16, (np.arange(12) + 0.5) / 12, indexing="ij")
    np.testing.assert_allclose(resized[4:-4, 3:-3], np.stack(expected, -1)[4:-4, 3:-3], atol=1e-4)


def test_initial_positions_tell_all_patches_apart():
    positions = np.asarray(sine_positions(jax.random.key(0), (3, 3, 16))).reshape(9, -1)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    assert distance[~np.eye(9, dtype=bool)].min() > 0.5


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(gelu(jnp.asarray(x, jnp.float32)), 0.5 * x * (1 + erf(x / np.sqrt(2))), atol=1e-6)
    assert gelu(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_merge_stem_sees_each_patch_alone():
    stem = MergeStem(patch=8, width=12, dtype=jnp.float32)
    images = jnp.asarray(np.random.default_rng(2).uniform(size=(1, 16, 24, 3)), jnp.float32)
    params = random_params(stem.init, images)
    before, after = stem.apply(params, images), stem.apply(params, images.at[0, 9, 17].add(0.5))
    assert before.shape == (1, 6, 12)
    changed = np.abs(np.asarray(after - before)[0]).max(axis=-1) > 1e-6
    np.testing.assert_array_equal(changed, [False, False, False, False, False, True])  # row 1, column 2 of 2 x 3


@pytest.mark.parametrize("patch", [2, 6, 14])
def test_merge_stem_refuses_patches_it_cannot_reach(patch):
    with pytest.raises(ValueError, match="patch size"):
        MergeStem(patch=patch, width=12, dtype=jnp.float32).init(jax.random.key(0), jnp.zeros((1, 84, 84, 3)))


def test_token_seed_tells_where_things_are():
    """The same patches in another order give other tokens, which a mean over patches could not."""
    vit = VIT.clone(from_scratch=True, depth=0)
    params = random_params(vit.init, IMAGES)
    mirrored = IMAGES.reshape(2, 12, 3, 4, 3)[:, :, ::-1].reshape(IMAGES.shape)  # columns of patches swapped
    params["params"]["positions"] = jnp.zeros_like(params["params"]["positions"])
    before, after = (vit.apply(params, images).extra for images in (IMAGES, mirrored))
    assert jnp.abs(before - after).max() > 1e-2


def test_every_backends_attention_is_the_same(monkeypatch):
    arrays = [jnp.asarray(np.random.default_rng(i).normal(size=(2, 7, 3, 8)), jnp.float32) for i in range(3)]
    on_cpu = attend(*arrays)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    np.testing.assert_allclose(on_cpu, attend(*arrays), atol=2e-6)
