"""The optimiser: what Adam moves, what Muon moves, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sheap_jax.training.optimizer import MUON_LARGEST_SIDE, MUON_SCALE, make_optimizer, make_schedule

RATE = 0.1


def parameters(rng):
    shapes = {"kernel": (12, 30), "bias": (30,), "large": (4, MUON_LARGEST_SIDE + 1), "table": (9, 9)}
    value = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    return {"dense": {"kernel": value["kernel"], "bias": value["bias"]}, "wide": {"kernel": value["large"]},
            "table": value["table"]}  # fmt: skip


def updates_of(optimizer, params, gradients):
    """Updates of the second step: the learning rate is zero in the first and full in the second."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
    return updates


def make(*, muon, weight_decay=0.0, clip_norm=1e9):
    def schedule(step):
        return jnp.where(step < 1, 0.0, RATE)

    return make_optimizer(schedule, weight_decay=weight_decay, clip_norm=clip_norm, muon=muon)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return parameters(rng), [parameters(rng) for _ in range(2)]


def test_without_muon_it_is_adamw(case):
    params, gradients = case
    mask = {"dense": {"kernel": True, "bias": False}, "wide": {"kernel": True}, "table": True}
    expected = optax.adamw(lambda step: jnp.where(step < 1, 0.0, RATE), b2=0.99, weight_decay=0.1, mask=mask)
    result = updates_of(make(muon=False, weight_decay=0.1), params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), result, updates_of(
        expected, params, gradients
    ))  # fmt: skip


def test_muon_moves_dense_kernels_alike_in_all_directions(case):
    params, gradients = case
    # A gradient with singular values from 1 to 1e-2, of which Adam would follow the large ones.
    u, _, v = np.linalg.svd(gradients[0]["dense"]["kernel"], full_matrices=False)
    kernel = jnp.asarray(u * np.geomspace(1, 1e-2, 12) @ v)
    gradients = [{**gradient, "dense": {**gradient["dense"], "kernel": kernel}} for gradient in gradients]
    update = updates_of(make(muon=True), params, gradients)["dense"]["kernel"]
    sizes = np.linalg.svd(update, compute_uv=False) / (RATE * MUON_SCALE * np.sqrt(30))
    assert sizes.min() > 0.5  # five Newton-Schulz steps end between about 0.7 and 1.2
    assert sizes.max() < 1.3
    # Against the gradient's direction in every one of its singular pairs.
    assert (np.diag(u.T @ np.asarray(update) @ v.T) < 0).all()


def test_muon_leaves_everything_else_to_adam(case):
    params, gradients = case
    adam, muon = (updates_of(make(muon=muon), params, gradients) for muon in (False, True))
    np.testing.assert_allclose(muon["dense"]["bias"], adam["dense"]["bias"], rtol=1e-6)
    np.testing.assert_allclose(muon["wide"]["kernel"], adam["wide"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(muon["table"], adam["table"], rtol=1e-6)
    assert not np.allclose(muon["dense"]["kernel"], adam["dense"]["kernel"], rtol=0.1)


def test_gradients_are_clipped_before_anything_else(case):
    params, gradients = case
    huge = [jax.tree.map(lambda x: 1e6 * x, gradients[0]), gradients[1]]
    norm = optax.global_norm(huge[0])
    clipped = [
        jax.tree.map(lambda x: x / norm, huge[0]),
        jax.tree.map(lambda x: x / optax.global_norm(gradients[1]), gradients[1]),
    ]
    result = updates_of(make(muon=True, clip_norm=1.0), params, huge)
    expected = updates_of(make(muon=True), params, clipped)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), result, expected)


def test_schedule_starts_again_lower():
    schedule = make_schedule(
        steps=300, learning_rate=2.0, warmup_steps=10, final_share=0.1, restart_step=200, restart_share=0.5
    )
    rates = {step: float(schedule(step)) for step in (0, 10, 105, 199, 200, 210, 255, 300)}
    # Half way from the peak to a tenth of it, and half of all that after the restart.
    expected = {0: 0.0, 10: 2.0, 105: 1.1, 199: 0.2, 200: 0.0, 210: 1.0, 255: 0.55, 300: 0.1}
    assert rates == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("restart_step", [0, 300])
def test_schedule_without_a_restart(restart_step):
    options = {"steps": 300, "learning_rate": 2.0, "warmup_steps": 10, "final_share": 0.1}
    schedule = make_schedule(**options, restart_step=restart_step, restart_share=0.5)
    assert [float(schedule(step)) for step in (0, 10, 155, 300)] == pytest.approx([0.0, 2.0, 1.1, 0.2], abs=1e-3)


def test_heads_of_appearance_have_a_rate_of_their_own(case):
    params, gradients = ({"features_head": tree, "shape_head": tree} for tree in (case[0], case[1][0]))
    options = {"weight_decay": 0.1, "clip_norm": 1e9, "muon": True}
    slow, fast = (optax.constant_schedule(rate) for rate in (RATE, 3 * RATE))
    one = updates_of(make_optimizer(slow, **options), params, [gradients])
    two = updates_of(make_optimizer(slow, **options, appearance=fast), params, [gradients])
    jax.tree.map(np.testing.assert_array_equal, two["shape_head"], one["shape_head"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 3 * b, rtol=1e-6), two["features_head"], one["features_head"]
    )
