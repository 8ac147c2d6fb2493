"""The graph network on faces against the graph over prototypes it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from sheap_jax.models import graph_network
from sheap_jax.models.graph_network import (
    GraphBlock,
    GraphNetwork,
    face_neighbourhood,
    face_slots,
    neighbour_mean,
    neighbour_sum,
    read_faces,
    sum_on_faces,
)
from sheap_jax.types import PrototypeState
from tests.models.random_params import random_params


def grid_faces(side: int) -> np.ndarray:
    """Two triangles per cell of a square grid."""
    index = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


FACES = grid_faces(4)
NEIGHBOURHOOD = face_neighbourhood(FACES)


def random_prototypes(capacity: int = 90) -> PrototypeState:
    rng = np.random.default_rng(0)
    return PrototypeState(
        parent_face=jnp.asarray(rng.integers(0, len(FACES), capacity)),
        barycentric=jnp.full((capacity, 3), 1 / 3),
        active=jnp.asarray(rng.uniform(size=capacity) < 0.7),
        opacity_mean=jnp.zeros(capacity),
        gradient_norm=jnp.zeros(capacity),
    )


PROTOTYPES = random_prototypes()
SLOTS = face_slots(PROTOTYPES, len(FACES), most=6)
NODES = jnp.asarray(np.random.default_rng(1).normal(size=(90, 2, 8)), jnp.float32)


def faces_within(faces: np.ndarray, rings: int) -> np.ndarray:
    """Boolean matrix: faces joined by at most `rings` shared edges."""
    sets = [set(face) for face in faces.tolist()]
    adjacent = np.array([[len(one & other) >= 2 for other in sets] for one in sets])
    return np.linalg.matrix_power(adjacent.astype(int), rings) > 0


def prototype_average() -> np.ndarray:
    """Matrix [n, n] of the mean over the active prototypes on neighbouring faces."""
    parent, active = np.asarray(PROTOTYPES.parent_face), np.asarray(PROTOTYPES.active)
    weights = (faces_within(FACES, 2)[parent][:, parent] & active).astype(float)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)


@pytest.mark.parametrize("rings", [0, 1, 2, 3])
def test_neighbourhoods_are_those_of_the_dual_graph(rings):
    neighbourhood = face_neighbourhood(FACES, rings=rings)
    dense = np.zeros((len(FACES), len(FACES)))
    np.add.at(dense, (np.arange(len(FACES))[:, None], neighbourhood.index), neighbourhood.weight)
    np.testing.assert_array_equal(dense, faces_within(FACES, rings))


def test_interior_faces_have_ten_in_two_rings_and_odd_meshes_work():
    assert NEIGHBOURHOOD.index.shape[1] == 10
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [5, 6, 7]])  # three faces on one edge, one alone
    neighbourhood = face_neighbourhood(fan)
    np.testing.assert_array_equal(neighbourhood.weight.sum(axis=1), [3, 3, 3, 1])


def test_mean_over_faces_is_the_mean_over_prototypes():
    faces = jax.jit(neighbour_mean)(NODES, SLOTS, NEIGHBOURHOOD)
    expected = np.einsum("nm,mbc->nbc", prototype_average(), np.asarray(NODES, np.float64))
    np.testing.assert_allclose(faces[PROTOTYPES.parent_face], expected, atol=1e-6)


def test_slots_hold_every_active_prototype_of_a_face_once():
    assert np.bincount(PROTOTYPES.parent_face[PROTOTYPES.active]).max() > 2
    for face in range(len(FACES)):
        expected = np.flatnonzero((PROTOTYPES.parent_face == face) & PROTOTYPES.active)
        np.testing.assert_array_equal(SLOTS.slot[face][SLOTS.valid[face]], expected)


def test_slots_of_no_active_prototypes_are_empty():
    none = face_slots(PROTOTYPES._replace(active=jnp.zeros(90, bool)), len(FACES), most=6)
    assert not none.valid.any()
    np.testing.assert_array_equal(sum_on_faces(NODES, none), np.zeros((len(FACES), 2, 8)))


def test_both_ways_to_sum_on_faces_agree():
    gathered, scattered = graph_network._gather_on_faces(NODES, SLOTS), graph_network._scatter_on_faces(NODES, SLOTS)
    np.testing.assert_allclose(gathered, scattered, atol=1e-6)


def test_sums_on_faces_and_reads_of_faces_are_the_scatter_and_gather_they_stand_for():
    active = PROTOTYPES.active[:, None, None]

    def scatter(nodes):
        return jnp.zeros((len(FACES), 2, 8)).at[PROTOTYPES.parent_face].add(jnp.where(active, nodes, 0))

    def gather(values):
        return jnp.where(active, values[PROTOTYPES.parent_face], 0)

    values = scatter(NODES)
    for ours, plain, at, direction in ((sum_on_faces, scatter, NODES, values), (read_faces, gather, values, NODES)):
        result, gradient = jax.vjp(lambda x, ours=ours: ours(x, SLOTS), at)
        expected, expected_gradient = jax.vjp(plain, at)
        np.testing.assert_allclose(result, expected, atol=1e-6)
        np.testing.assert_allclose(gradient(direction)[0], expected_gradient(direction)[0], atol=1e-6)


def test_sum_is_differentiated_as_its_own_transpose():
    rng = np.random.default_rng(2)
    values, cotangent = (jnp.asarray(rng.normal(size=(len(FACES), 3)), jnp.float32) for _ in range(2))
    gradient = jax.jit(lambda v: jax.vjp(lambda x: neighbour_sum(x, NEIGHBOURHOOD), v)[1](cotangent)[0])(values)
    np.testing.assert_allclose(gradient, faces_within(FACES, 2).T @ np.asarray(cotangent, np.float64), atol=1e-5)


def test_block_equals_the_naive_graph_convolution():
    block = GraphBlock(8, jnp.float32)
    params = random_params(block.init, NODES, SLOTS, NEIGHBOURHOOD)["params"]
    result = jax.jit(lambda p: block.apply({"params": p}, NODES, SLOTS, NEIGHBOURHOOD))(params)

    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    nodes = np.asarray(NODES, np.float64)
    around = np.einsum("nm,mbc->nbc", prototype_average(), nodes)
    hidden = nodes @ weights["own"]["kernel"] + weights["own"]["bias"] + around @ weights["neighbours"]["kernel"]
    hidden = 0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))
    expected = hidden @ weights["out"]["kernel"] + weights["out"]["bias"]
    active = np.asarray(PROTOTYPES.active)
    np.testing.assert_allclose(result[active], expected[active], atol=2e-6)


def test_gradient_of_the_network_agrees_with_finite_differences():
    network = GraphNetwork(8, 2, 3)
    params = random_params(network.init, NODES, PROTOTYPES, NEIGHBOURHOOD)
    loss = jax.jit(lambda nodes: jnp.sum(network.apply(params, nodes, PROTOTYPES, NEIGHBOURHOOD) ** 2))
    gradient = jax.jit(jax.grad(loss))(NODES)
    direction = jnp.asarray(np.random.default_rng(3).normal(size=NODES.shape), jnp.float32)
    step = 1e-3
    expected = (loss(NODES + step * direction) - loss(NODES - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient * direction), expected, rtol=1e-2)


def test_inactive_prototypes_influence_nobody():
    network = GraphNetwork(8, 2, 3)
    params = random_params(network.init, NODES, PROTOTYPES, NEIGHBOURHOOD)
    apply = jax.jit(lambda nodes: network.apply(params, nodes, PROTOTYPES, NEIGHBOURHOOD))
    active = PROTOTYPES.active
    changed = jnp.where(active[:, None, None], NODES, 100.0)
    np.testing.assert_array_equal(apply(NODES)[active], apply(changed)[active])
