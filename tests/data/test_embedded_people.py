"""People of a converted model: their statistics, where they stand, and that they can be filmed and evaluated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded import generate, load_truth, settings_name
from sheap_jax.data.embedded.people import EYES, draw_person, load_people, true_shapes
from sheap_jax.data.embedded.scene_meshes import dressed_model
from sheap_jax.data.embedded.teeth import ACROSS, DOWN
from sheap_jax.data.records import Split
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import forward, mean_params, neutral_vertices, points_on_faces
from sheap_jax.morphable.storage import load_model, save_model

TEETH = ACROSS * DOWN  # vertices of a row


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> str:
    """A model like ICT's: another origin, ten identity channels, and a jaw that is an expression and no joint."""
    head = embedded_head(detail="coarse")
    kept = [index for index, name in enumerate(head.joint_names) if name != "jaw"]
    weights = np.array(head.skinning_weights)
    jaw = weights[:, head.joint_names.index("jaw")]
    weights[:, head.joint_names.index("neck")] += jaw
    opening = jaw[:, None] * np.array([0.0, -0.02, 0.0], np.float32)
    model = dataclasses.replace(
        head,
        template=head.template + jnp.array([0.01, -0.03, -0.1]),
        identity_basis=head.identity_basis[:10],
        expression_basis=jnp.concatenate([head.expression_basis, opening[None]]),
        expression_names=(*head.expression_names, "jawOpen"),
        joint_regressor=head.joint_regressor[np.array(kept)],
        skinning_weights=jnp.asarray(weights[:, kept]),
        joint_names=tuple(head.joint_names[index] for index in kept),
        parents=(-1, 0, 1, 1),
        name="converted",
    )
    path = tmp_path_factory.mktemp("model") / "model.npz"
    save_model(model, path)
    return str(path)


def test_identities_are_standard_normal_in_the_models_basis(converted):
    config, model = EmbeddedData(people=converted), load_people(converted)
    offsets = np.stack([draw_person("train", k, config, model).neutral for k in range(400)]) - model.template
    basis = model.identity_basis.reshape(len(model.identity_basis), -1)
    coefficients, *_ = np.linalg.lstsq(basis.T, offsets.reshape(len(offsets), -1).T, rcond=None)
    np.testing.assert_allclose(basis.T @ coefficients, offsets.reshape(len(offsets), -1).T, atol=1e-6)
    np.testing.assert_allclose(coefficients.mean(axis=1), 0, atol=4 / 20)  # four standard errors
    np.testing.assert_allclose(np.cov(coefficients), np.eye(10), atol=0.3)


def test_true_shapes_are_those_of_the_people_who_are_filmed(converted):
    for people in (converted, "embedded:coarse"):
        config = EmbeddedData(people=people, train_identities=3, test_identities=2)
        model = load_people(people)
        for split, count in (("train", 3), ("test", 2)):
            shapes = true_shapes(split, config, coefficients=len(model.identity_basis))
            assert shapes.shape == (count, len(model.identity_basis))
            for number, shape in enumerate(shapes):
                neutral = draw_person(split, number, config, model).neutral
                spanned = np.asarray(neutral_vertices(model, jnp.asarray(shape)))
                left = np.linalg.norm(neutral - spanned, axis=1).mean()
                others = np.asarray(neutral_vertices(model, jnp.asarray(np.roll(shapes, 1, axis=0)[number])))
                assert left < 0.5 * np.linalg.norm(neutral - others, axis=1).mean()
                if people == converted:
                    np.testing.assert_allclose(neutral, spanned, atol=1e-6)


def test_heads_stand_where_hair_and_clothes_are(converted):
    for name in (converted, "embedded:fine", "embedded:coarse"):
        model = load_people(name)
        landmarks = points_on_faces(
            jnp.asarray(model.template), model.faces, model.landmark_faces, model.landmark_barycentrics
        )
        np.testing.assert_allclose(landmarks[36:48].mean(axis=0), EYES, atol=0.002)


def test_lower_teeth_follow_a_jaw_that_is_an_expression(converted):
    model = load_people(converted)
    hair = np.zeros((3, 3), np.float32)
    dressed = dressed_model(model, model.template, hair)
    moved = dressed.expression_basis[model.expression_names.index("jawOpen")]
    upper, lower = np.split(moved[len(model.template) : -len(hair)], 2)
    assert len(lower) == TEETH
    np.testing.assert_allclose(upper, 0)
    np.testing.assert_allclose(lower, np.broadcast_to([0, -0.02, 0], lower.shape), atol=0.004)
    smile = dressed.expression_basis[model.expression_names.index("smile")]
    assert np.abs(smile[: len(model.template)]).max() > 0.003
    np.testing.assert_allclose(smile[len(model.template) :], 0)


@pytest.mark.parametrize("follow", [False, True])
def test_teeth_and_hair_do_not_move_the_joints(converted, follow):
    """The dressed person poses as the bare model, whether its joints follow the expression or not."""
    model = jax.tree.map(jnp.asarray, load_people(converted)).replace(joints_follow_expression=follow)
    dressed = dressed_model(model, np.asarray(model.template), np.zeros((3, 3), np.float32))
    rng = np.random.default_rng(0)
    expression = jnp.asarray(rng.uniform(size=len(model.expression_names)), jnp.float32)
    rotations = jnp.asarray(rng.normal(size=(len(model.parents), 3)) * 0.3, jnp.float32)
    bare = forward(model, mean_params(model)._replace(expression=expression, rotations=rotations))
    whole = forward(dressed, mean_params(dressed)._replace(expression=expression, rotations=rotations))
    np.testing.assert_allclose(whole[: len(bare)], bare, atol=1e-6)


def test_a_data_set_has_the_models_topology_and_projects_to_its_landmarks(converted, tmp_path):
    config = EmbeddedData(1, 1, 1, 2, image_size=48, people=converted, processes=1)
    directory = generate(tmp_path / "heads", config, progress=False)
    truth, shards = load_truth(directory, "test"), Split(directory, "test")
    model = load_people(converted)
    assert truth.posed.shape == (2, *model.template.shape)
    np.testing.assert_array_equal(truth.faces, model.faces)
    eyes = np.asarray(model.faces)[np.asarray(model.landmark_faces)[36:48]]
    points = np.einsum("lk,nlkc->nlc", model.landmark_barycentrics[36:48], truth.posed[:, eyes])
    pixels = np.asarray(project(points.astype(np.float32), official_camera(48)))
    np.testing.assert_allclose(pixels, truth.landmarks2d[:, 36:48], atol=1e-3)
    assert len(shards) == 2


def test_a_cache_goes_by_what_the_model_is_and_not_by_where(converted, tmp_path):
    model = load_model(converted)
    save_model(model, tmp_path / "same.npz")
    save_model(dataclasses.replace(model, template=model.template * 1.01), tmp_path / "other.npz")
    save_model(dataclasses.replace(model, joints_follow_expression=True), tmp_path / "posed.npz")
    same, other, posed = (settings_name(EmbeddedData(people=f"{tmp_path}/{n}.npz")) for n in ("same", "other", "posed"))
    assert same == settings_name(EmbeddedData(people=converted))
    assert len({same, other, posed}) == 3


def test_a_missing_model_is_named():
    with pytest.raises(FileNotFoundError, match=r"no/such.npz"):
        settings_name(EmbeddedData(people="no/such.npz"))
