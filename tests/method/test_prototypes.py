"""Prototypes: initial state, statistics, and the invariants of densification."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheap_jax.method.prototypes import (
    Densified,
    active_per_face,
    densify_and_prune,
    init_prototypes,
    update_statistics,
)
from sheap_jax.types import PrototypeState

FACES = 12
CAPACITY = 40
COUNT = 9


@jax.jit
def densify(prototypes: PrototypeState, embedding, moments, seed) -> Densified:
    return densify_and_prune(prototypes, embedding, moments, jax.random.key(seed), count=COUNT)


def rows(seed: int) -> tuple[np.ndarray, dict]:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(CAPACITY, 5)).astype(np.float32)
    return embedding, {"mu": rng.normal(size=(CAPACITY, 5)), "nu": rng.uniform(1, 2, CAPACITY)}


def random_state(seed: int) -> PrototypeState:
    """One to six active prototypes per face in random slots, random statistics."""
    rng = np.random.default_rng(seed)
    counts = np.ones(FACES, int)
    for face in rng.integers(0, FACES, rng.integers(0, CAPACITY - FACES + 1)):
        counts[face] += counts[face] < 6
    parent_face = np.repeat(np.arange(FACES), counts)
    slots = rng.permutation(CAPACITY)[: len(parent_face)]
    parents, active = np.zeros(CAPACITY, np.int32), np.zeros(CAPACITY, bool)
    parents[slots], active[slots] = parent_face, True
    return PrototypeState(
        parent_face=jnp.asarray(parents),
        barycentric=jnp.asarray(rng.dirichlet(np.ones(3), CAPACITY), jnp.float32),
        active=jnp.asarray(active),
        opacity_mean=jnp.asarray(rng.uniform(size=CAPACITY), jnp.float32),
        gradient_norm=jnp.asarray(rng.uniform(size=CAPACITY), jnp.float32),
    )


@pytest.mark.parametrize("per_face", range(1, 7))
def test_initial_anchors_are_distinct_points_inside_their_faces(per_face):
    prototypes = init_prototypes(3, per_face=per_face, capacity=20)
    np.testing.assert_array_equal(active_per_face(prototypes, 3), per_face)
    np.testing.assert_allclose(prototypes.barycentric.sum(axis=-1), 1, atol=1e-6)
    assert (prototypes.barycentric > 0.1).all()
    anchors = np.asarray(prototypes.barycentric)[:per_face]
    distances = np.linalg.norm(anchors[:, None] - anchors[None], axis=-1)
    assert distances[~np.eye(per_face, dtype=bool)].min(initial=1) > 0.1
    np.testing.assert_allclose(anchors.mean(axis=0), 1 / 3, atol=0.06)  # no side of the face is left out


@pytest.mark.parametrize(("per_face", "capacity"), [(0, 100), (7, 100), (2, 23)])
def test_impossible_numbers_are_refused(per_face, capacity):
    with pytest.raises(ValueError, match=r"per_face|capacity"):
        init_prototypes(FACES, per_face=per_face, capacity=capacity)


def test_statistics_converge_to_the_means():
    prototypes = init_prototypes(2)
    opacities = jnp.array([[0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.0, 0.8]])
    gradients = jnp.broadcast_to(jnp.array([[[3.0, 4.0]], [[0.0, 0.0]]]), (2, 4, 2))
    for _ in range(50):
        prototypes = update_statistics(prototypes, opacities, gradients, decay=0.8)
    np.testing.assert_allclose(prototypes.opacity_mean, [0.3, 0.4, 0.3, 0.8], atol=1e-4)
    np.testing.assert_allclose(prototypes.gradient_norm, 2.5, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_every_round_keeps_the_invariants(seed):
    before = random_state(seed)
    embedding, moments = rows(seed)
    result = densify(before, embedding, moments, seed)
    after, fresh, source = result.prototypes, np.asarray(result.fresh), np.asarray(result.source)

    counts = np.asarray(active_per_face(after, FACES))
    assert counts.min() >= 1
    assert counts.max() <= 6
    assert after.active.sum() >= before.active.sum()
    assert after.active.sum() <= before.active.sum() + COUNT
    assert fresh.sum() <= COUNT
    np.testing.assert_allclose(after.barycentric.sum(axis=-1), 1, atol=1e-5)
    assert (after.barycentric >= 0).all()

    # A new prototype comes from a distinct active one, on the same face, which is still there.
    assert np.asarray(before.active)[source[fresh]].all()
    assert np.asarray(after.active)[source[fresh]].all()
    assert not fresh[source[fresh]].any()
    assert len(set(source[fresh])) == fresh.sum()
    np.testing.assert_array_equal(after.parent_face[fresh], before.parent_face[source[fresh]])

    # Nothing else moves, and only new rows lose their moments.
    np.testing.assert_array_equal(source[~fresh], np.arange(CAPACITY)[~fresh])
    np.testing.assert_array_equal(after.barycentric[~fresh], before.barycentric[~fresh])
    np.testing.assert_array_equal(result.embedding[~fresh], embedding[~fresh])
    for name, old in moments.items():
        assert (np.asarray(result.moments[name])[fresh] == 0).all()
        np.testing.assert_array_equal(np.asarray(result.moments[name])[~fresh], old[~fresh].astype(np.float32))


def test_free_slots_are_filled_before_anything_is_pruned():
    before = init_prototypes(FACES, per_face=1, capacity=CAPACITY)
    gradient = np.arange(CAPACITY, dtype=np.float32)
    result = densify(before._replace(gradient_norm=jnp.asarray(gradient)), *rows(0), 0)
    assert result.prototypes.active.sum() == FACES + COUNT
    assert np.asarray(result.prototypes.active)[:FACES].all()
    # The parents are those of largest gradient, and share it with their duplicates.
    parents = np.sort(np.asarray(result.source)[np.asarray(result.fresh)])
    np.testing.assert_array_equal(parents, np.arange(FACES - COUNT, FACES))
    np.testing.assert_allclose(result.prototypes.gradient_norm[parents], gradient[parents] / 2)


def test_full_slots_are_swapped_for_the_least_opaque():
    """At capacity: the total stays, and the prototypes that go are the least opaque that may go."""
    before = init_prototypes(FACES, per_face=3, capacity=3 * FACES)
    count = 3 * FACES
    opacity = np.linspace(0.9, 0.1, count, dtype=np.float32)  # the last faces are the least opaque
    gradient = np.where(np.arange(count) < 9, 1.0, 0.0).astype(np.float32)
    before = before._replace(opacity_mean=jnp.asarray(opacity), gradient_norm=jnp.asarray(gradient))
    embedding = jnp.ones((count, 2))
    result = jax.jit(lambda p: densify_and_prune(p, embedding, {}, jax.random.key(0), count=4))(before)
    assert result.prototypes.active.sum() == count
    replaced = np.flatnonzero(result.fresh)
    # Of every face the most opaque stays: 33 and 30 are protected, so 35, 34, 32, 31 go.
    np.testing.assert_array_equal(replaced, [31, 32, 34, 35])
    assert (np.asarray(result.prototypes.parent_face)[replaced] < 3).all()


def test_full_faces_get_no_duplicates():
    before = init_prototypes(2, per_face=6, capacity=20)
    result = jax.jit(lambda p: densify_and_prune(p, jnp.ones((20, 2)), {}, jax.random.key(0), count=5))(before)
    assert not result.fresh.any()
    np.testing.assert_array_equal(result.prototypes.active, before.active)


def test_noise_separates_duplicates_from_their_parents():
    before = init_prototypes(FACES, per_face=1, capacity=CAPACITY)
    embedding, moments = rows(1)
    result = densify(before, embedding, moments, 3)
    fresh, source = np.asarray(result.fresh), np.asarray(result.source)
    distance = np.linalg.norm(np.asarray(result.embedding)[fresh] - embedding[source[fresh]], axis=-1)
    assert (distance > 0.01).all()
    assert (distance < 1.0).all()
    moved = np.abs(np.asarray(result.prototypes.barycentric)[fresh] - 1 / 3).max(axis=-1)
    assert (moved > 1e-3).all()
