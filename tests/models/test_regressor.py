"""The Gaussian regressor's first surfels, their bounds and what they depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.models.graph_network import face_neighbourhood
from sheap_jax.models.regressor import GaussianRegressor
from sheap_jax.types import SeenColors
from tests.models.random_params import random_params

FACES = np.array([[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5]])
NEIGHBOURHOOD = face_neighbourhood(FACES, rings=1)
PROTOTYPES = init_prototypes(4, per_face=2, capacity=10)
RNG = np.random.default_rng(0)
FEATURES = jnp.asarray(RNG.normal(size=(2, 6)), jnp.float32)
CONTEXT = jnp.asarray(RNG.normal(size=(2, 5, 7)), jnp.float32)
UV = jnp.asarray(RNG.uniform(size=(10, 2)), jnp.float32)
REGRESSOR = GaussianRegressor(uv_size=8, uv_channels=4, embedding_dim=3, width=8, depth=1, attention_size=4)


@jax.jit
def surfels_of(params):
    return REGRESSOR.apply(params, FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD)


@pytest.fixture(scope="module")
def params():
    init = jax.jit(lambda: REGRESSOR.init(jax.random.key(0), FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD))
    return init()


def with_last_layer(params, size: float):
    """The parameters with a random last layer of the given size."""
    kernel = size * np.random.default_rng(1).normal(size=(8, 14)).astype(np.float32)
    graph = params["params"]["graph"] | {"out": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(14)}}
    return {"params": params["params"] | {"graph": graph}}


def test_first_surfels_lie_on_their_faces_half_opaque_and_grey(params):
    local = surfels_of(params)
    assert (local.offset == 0).all()
    assert (local.albedo == 0.5).all()
    np.testing.assert_array_equal(local.rotation, np.broadcast_to([1, 0, 0, 0], (2, 10, 4)))
    np.testing.assert_array_equal(local.opacity, np.broadcast_to(np.where(np.arange(10) < 8, 0.5, 0), (2, 10)))


def test_first_surfels_cover_their_faces(params):
    """Every point of a face lies within about one standard deviation of one of its two surfels."""
    scale = np.asarray(surfels_of(params).scale)[0, 0, :2]
    corners = np.array([[0, 0], [1, 0], [0.3, 1]])  # s_u = s_v = 1
    points = np.random.default_rng(2).dirichlet(np.ones(3), 500) @ corners
    centres = np.asarray(PROTOTYPES.barycentric)[:2] @ corners
    nearest = np.linalg.norm((points[:, None] - centres) / scale, axis=-1).min(axis=1)
    assert nearest.max() < 1.5
    assert (nearest < 1).mean() > 0.9


def test_outputs_are_bounded_whatever_the_network_says(params):
    local = surfels_of(with_last_layer(params, 100.0))
    assert all(np.isfinite(x).all() for x in local)
    assert jnp.abs(local.offset).max() <= REGRESSOR.offset_limit
    assert local.scale.min() >= REGRESSOR.initial_scale / REGRESSOR.scale_range * 0.999
    assert local.scale.max() <= REGRESSOR.initial_scale * REGRESSOR.scale_range * 1.001
    np.testing.assert_allclose(jnp.linalg.norm(local.rotation, axis=-1), 1, atol=1e-5)
    assert (local.opacity[:, 8:] == 0).all()


def test_surfels_differ_between_people_and_between_prototypes(params):
    local = surfels_of(with_last_layer(params, 1.0))
    assert jnp.abs(local.albedo[0] - local.albedo[1]).max() > 1e-3
    assert jnp.std(local.albedo[0, :8], axis=0).min() > 1e-3


def test_every_part_learns(params):
    moved = with_last_layer(params, 1.0)
    gradient = jax.jit(jax.grad(lambda p: sum(jnp.sum(x[:, :8] ** 3) for x in surfels_of(p))))(moved)["params"]
    assert (jnp.abs(gradient["embedding"][:8]).max(axis=-1) > 0).all()
    assert (gradient["embedding"][8:] == 0).all()  # inactive prototypes learn nothing and teach nothing
    for name in ("uv_generator", "graph", "sampled_in"):
        assert max(jnp.abs(x).max() for x in jax.tree.leaves(gradient[name])) > 0


def test_bfloat16_starts_exactly_and_stays_close(params):
    half = REGRESSOR.clone(dtype=jnp.bfloat16)
    apply = jax.jit(lambda p: half.apply(p, FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD))
    for a, b in zip(surfels_of(params), apply(params), strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)
    moved = with_last_layer(params, 0.3)
    assert jnp.abs(surfels_of(moved).albedo - apply(moved).albedo).max() < 0.05


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_ablations_kinds_start_like_the_graph_network_and_see_what_they_should(params, kind):
    """The MLP knows features and embeddings, the CNN features, context and UV places; neither knows neighbours."""
    other = REGRESSOR.clone(kind=kind)
    inputs = (FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD)
    drawn = random_params(other.init, *inputs)["params"]
    assert ("embedding" in drawn) == (kind == "mlp")
    apply = jax.jit(lambda p, f, c: other.apply({"params": p}, f, c, PROTOTYPES, UV, NEIGHBOURHOOD))
    start = drawn | {kind: drawn[kind] | {"out": jax.tree.map(jnp.zeros_like, drawn[kind]["out"])}}
    for ours, graph in zip(apply(start, FEATURES, CONTEXT), surfels_of(params), strict=True):
        np.testing.assert_array_equal(ours, graph)  # zeros, halves and ones: exact
    albedo = apply(drawn, FEATURES, CONTEXT).albedo
    assert jnp.abs(albedo - apply(drawn, -FEATURES, CONTEXT).albedo).max() > 1e-3
    sees_context = jnp.abs(albedo - apply(drawn, FEATURES, CONTEXT[:, :, ::-1]).albedo).max() > 1e-3
    assert sees_context == (kind == "cnn")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="graph, mlp, cnn, not 'rnn'"):
        jax.eval_shape(REGRESSOR.clone(kind="rnn").apply, {}, FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD)


def test_albedo_starts_from_what_the_source_shows():
    regressor = REGRESSOR.clone(source_colors=True)
    rng = np.random.default_rng(3)
    seen = np.zeros((2, 10), np.float32)
    seen[:, :4] = 1.0
    colors = SeenColors(jnp.asarray(rng.uniform(0.05, 0.95, (2, 10, 3)), jnp.float32), jnp.asarray(seen))
    local, _ = jax.jit(
        lambda: regressor.init_with_output(jax.random.key(0), FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD, colors)
    )()
    np.testing.assert_allclose(local.albedo[:, :4], colors.color[:, :4], atol=1e-5)
    np.testing.assert_array_equal(local.albedo[:, 4:], 0.5)


def test_colors_and_the_switch_for_them_go_together(params):
    colors = SeenColors(jnp.zeros((2, 10, 3)), jnp.zeros((2, 10)))
    with pytest.raises(ValueError, match="if, and only if"):
        REGRESSOR.apply(params, FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD, colors)
    with pytest.raises(ValueError, match="if, and only if"):
        REGRESSOR.clone(source_colors=True).apply(params, FEATURES, CONTEXT, PROTOTYPES, UV, NEIGHBOURHOOD)
