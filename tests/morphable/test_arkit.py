"""ARKit's weights from the expressions of ICT's model."""

import numpy as np

from sheap_jax.morphable.arkit import ARKIT_NAMES, arkit_weights


def test_ict_has_all_shapes_but_the_tongue(shared_data):
    """Every single expression of the real model moves the weight that its name says, and no other."""
    with np.load(shared_data / "ict_face_model.npz") as model:
        names = model["expression_names"].tolist()
    weights = arkit_weights(names, 0.8 * np.eye(len(names)))
    assert weights is not None
    assert len(set(ARKIT_NAMES)) == 52
    for name, row in zip(names, weights, strict=True):
        (moved,) = np.flatnonzero(row)
        wanted = name.replace("_L", "Left").replace("_R", "Right")
        halved = wanted.removesuffix("Left").removesuffix("Right") in ("browInnerUp", "cheekPuff")
        if halved:  # ARKit has one weight for both sides
            wanted = wanted.removesuffix("Left").removesuffix("Right")
        assert ARKIT_NAMES[moved] == wanted
        assert row[moved] == (0.4 if halved else 0.8)
    assert set(ARKIT_NAMES) - {ARKIT_NAMES[k] for k in np.flatnonzero(weights.any(axis=0))} == {"tongueOut"}


def test_weights_stay_between_0_and_1():
    wild = np.random.default_rng(0).normal(0.0, 3.0, (5, 52))
    weights = arkit_weights(ARKIT_NAMES, wild)
    assert weights is not None
    np.testing.assert_array_equal(weights, np.clip(wild, 0.0, 1.0))


def test_other_models_have_none():
    assert arkit_weights(("smile", "frown"), np.zeros((3, 2))) is None
