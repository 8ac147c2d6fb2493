"""The whole objective against a sum in float64 NumPy, term by term, written from the formulas of docs/method.md.

Networks are replaced by constants, so that every value that enters a term is chosen here: undetected landmarks,
inactive prototypes, surfels that leave their triangles, a head whose region "face" is one half.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from skimage.metrics import structural_similarity

from sheap_jax.config import LossWeights
from sheap_jax.geometry import official_camera
from sheap_jax.method import lighting, reanimation
from sheap_jax.method.losses.true_shape import TrueShapes
from sheap_jax.method.objective import RenderSettings, full_objective, geometry_objective
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.method.reanimation import Assets, Avatar, EstimatedPair, Networks, Rendering
from sheap_jax.models.estimator import EstimatorOutput
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import Batch, Estimate, Frame, LocalSurfels, PrototypeState
from tests.training.conftest import ellipsoid

SIZE, PAIRS = 32, 2
# All different, none 0 or 1: a weight at the wrong term, or left out, changes the sum.
WEIGHTS = LossWeights(
    landmarks=0.83, contour=0.37, mouth=1.7, l1=1.3, ssim=0.29, gradient=0.53, perceptual=0.41, normal=0.61, depth=0.47,
    shape=0.21, expression=0.34, offset=0.71, scale=1.9, background=0.13, off_face=0.43, mean_share=0.6,
)  # fmt: skip
TERMS = {
    "landmarks_source": 0.83 / 2, "landmarks_target": 0.83 / 2, "l1": 1.3, "ssim": 0.29, "gradient": 0.53,
    "perceptual": 0.41, "normal": 0.61, "depth": 0.47, "shape": 0.21, "expression": 0.34, "offset": 0.71, "scale": 1.9,
}  # fmt: skip


class Constant:
    """A network whose output is its parameters."""

    isotropic = False
    source_colors = False

    def apply(self, variables: Any, *_: Any) -> Any:
        return variables["params"]


class Distance:
    """In place of LPIPS: two maps of different size, the second the same all over an image."""

    def apply(self, _: Any, rendered: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        squared = jnp.sum((rendered - target) ** 2, axis=-1)
        mean = jnp.mean(squared, axis=(1, 2), keepdims=True)
        return squared, jnp.broadcast_to(mean, (*mean.shape[:1], 4, 4))


class Scene(NamedTuple):
    """The arguments of an objective."""

    params: dict[str, Any]
    networks: Networks
    assets: Assets
    prototypes: PrototypeState
    batch: Batch


def make_scene() -> Scene:
    rng = np.random.default_rng(0)
    model = ellipsoid()
    right = (np.asarray(model.template)[:, 0] < 0).astype(np.float32)
    model = dataclasses.replace(model, regions={"face": jnp.asarray(right)})
    prototypes = init_prototypes(model.faces.shape[0], per_face=1, capacity=90)
    count = 90
    height = np.asarray(model.template)[np.asarray(model.faces)].mean(axis=1)[:, 1]
    faint = height[np.asarray(prototypes.parent_face)] > 0.03
    head = jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape), mean_params(model, 2 * PAIRS))
    head = head._replace(translation=0.01 * head.translation)
    estimate = Estimate(head, light=np.zeros((2 * PAIRS, 3)), features=np.zeros((2 * PAIRS, 1)))
    local = LocalSurfels(
        offset=rng.normal(size=(PAIRS, count, 3)) * np.where(np.arange(count) % 7, 0.3, 1.2)[:, None],
        scale=rng.uniform(0.45, 0.9, (PAIRS, count, 3)),
        rotation=np.array([1.0, 0, 0, 0]) + 0.3 * rng.normal(size=(PAIRS, count, 4)),
        albedo=rng.uniform(0.2, 0.9, (PAIRS, count, 3)),
        opacity=np.where(prototypes.active & ~faint, rng.uniform(0.7, 0.95, (PAIRS, count)), 0.0),
    )
    output = EstimatorOutput(estimate, patch_tokens=np.zeros((2 * PAIRS, 1, 1)))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), {"estimator": output, "regressor": local})
    networks: Any = Networks(Constant(), Constant(), lpips=Distance())  # pyright: ignore[reportArgumentType]
    neighbourhood: Any = None
    assets = Assets(model, neighbourhood, lighting.ambient_light_prior(3), official_camera(SIZE), frozen={"lpips": {}})
    batch = Batch(make_frame(rng), make_frame(rng), record=jnp.zeros((PAIRS, 2), jnp.int32))
    return Scene(params, networks, assets, prototypes, batch)


def make_frame(rng: np.random.Generator) -> Frame:
    """A noise picture; the detector was unsure of some landmarks and lost others."""
    landmarks = rng.uniform(0, SIZE, (PAIRS, 68, 2))
    weight = rng.uniform(0.2, 1.0, (PAIRS, 68))
    lost = rng.uniform(size=weight.shape) < 0.2
    landmarks[lost], weight[lost] = 1e4, 0.0
    image = rng.uniform(size=(PAIRS, SIZE, SIZE, 3))
    return Frame(*(jnp.asarray(value, jnp.float32) for value in (image, landmarks, weight)))


class Parts(NamedTuple):
    """What enters the terms. Estimation, binding and rendering have tests of their own."""

    pair: EstimatedPair
    avatar: Avatar
    rendering: Rendering


def make_parts(scene: Scene, params: Any) -> Parts:
    networks, assets, batch = scene.networks, scene.assets, scene.batch
    pair = reanimation.estimate_pair(networks, params, assets, batch.source.image, batch.target.image)
    avatar = reanimation.build_avatar(networks, params, assets, scene.prototypes, pair)
    background = reanimation.border_color(batch.target.image)
    options = {"size": SIZE, "implementation": "reference"}
    return Parts(pair, avatar, reanimation.render(assets, avatar, pair.target.vertices, background, **options))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="module")
def parts(scene) -> Parts:
    """In float64."""
    parts = jax.jit(functools.partial(make_parts, scene))(scene.params)
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, parts)


def landmark_term(projected: np.ndarray, frame: Frame) -> float:
    error = np.abs(projected - np.asarray(frame.landmarks, np.float64)).sum(-1) / SIZE
    group = np.ones(68)
    group[:17], group[48:] = WEIGHTS.contour, WEIGHTS.mouth
    return np.average(error, weights=np.asarray(frame.landmark_weight, np.float64) * group)


def pixel_weights(scene: Scene, rendering: Rendering) -> Float[np.ndarray, "b h w"]:
    """1 on faces of the region, `off_face` on the rest of the mesh, `background` elsewhere."""
    region = np.asarray(scene.assets.model.regions["face"])[np.asarray(scene.assets.model.faces)].sum(-1) >= 2
    weight = np.where(region, 1.0, WEIGHTS.off_face)[np.asarray(rendering.mesh.face_index)]
    weight = np.where(rendering.mesh.mask, weight, WEIGHTS.background)
    for value in (1.0, WEIGHTS.off_face, WEIGHTS.background):
        assert (weight == value).mean() > 0.1, "this scene would not see a wrong mask"
    return weight


def photometric_terms(scene: Scene, rendering: Rendering) -> dict[str, float]:
    rendered, target = np.asarray(rendering.surfels.color), np.asarray(scene.batch.target.image, np.float64)
    difference = rendered - target
    weight = pixel_weights(scene, rendering)
    ssim = [
        structural_similarity(
            one, other, gaussian_weights=True, use_sample_covariance=False, data_range=1, channel_axis=-1, full=True
        )[1].mean(-1)
        for one, other in zip(rendered, target, strict=True)
    ]
    slope = np.zeros(weight.shape)
    slope[:, :, :-1] += np.abs(difference[:, :, 1:] - difference[:, :, :-1]).mean(-1)
    slope[:, :-1] += np.abs(difference[:, 1:] - difference[:, :-1]).mean(-1)
    squared = (difference**2).sum(-1)
    maps = {
        "l1": np.abs(difference).mean(-1),
        "ssim": 1 - np.stack(ssim),
        "gradient": slope,
        "perceptual": squared + squared.mean(axis=(1, 2), keepdims=True),
    }
    return {name: np.average(values, weights=weight) for name, values in maps.items()}


def consistency_terms(scene: Scene, parts: Parts) -> dict[str, float]:
    active, parent = np.asarray(scene.prototypes.active), np.asarray(scene.prototypes.parent_face)
    corners = np.asarray(parts.pair.target.vertices)[:, np.asarray(scene.assets.model.faces)[parent]]
    faces = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    faces /= np.linalg.norm(faces, axis=-1, keepdims=True)
    quats = np.roll(np.asarray(parts.avatar.surfels.quats), -1, axis=-1)  # scipy's are xyzw
    normals = Rotation.from_quat(quats.reshape(-1, 4)).as_matrix()[:, :, 2].reshape(faces.shape)
    surfels, mesh = parts.rendering.surfels, parts.rendering.mesh
    seen = (np.asarray(surfels.alpha) > 0.5) & np.asarray(mesh.mask)
    assert seen.mean() > 0.1
    assert (np.asarray(mesh.mask) & ~seen).mean() > 0.02, "this scene would not see a wrong mask"
    expected = np.asarray(surfels.depth)[seen] / np.asarray(surfels.alpha)[seen]
    distance = np.abs(expected - np.asarray(mesh.depth)[seen])
    assert 0.02 < (distance > 0.03).mean() < 0.9, "this scene would not see a wrong cutoff"
    return {
        "normal": (1 - (normals * faces).sum(-1))[:, active].mean(),
        "depth": np.minimum(distance, 0.03).mean() / 0.01,
    }


def expected_terms(scene: Scene, parts: Parts) -> dict[str, float]:
    pair, local = parts.pair, jax.tree.map(np.asarray, parts.avatar.local)
    active = np.asarray(scene.prototypes.active)
    expressions = np.concatenate([pair.source.params.expression, pair.target.params.expression])
    return {
        "landmarks_source": landmark_term(pair.source.landmarks, scene.batch.source),
        "landmarks_target": landmark_term(pair.target.landmarks, scene.batch.target),
        "shape": (np.asarray(pair.source.params.shape) ** 2).mean(),
        "expression": (expressions**2).mean(),
        "offset": np.maximum(np.abs(local.offset) - 1, 0)[:, active].mean(),
        "scale": np.maximum(local.scale[..., :2] - 0.6, 0)[:, active].mean(),  # a surfel has no third size
        **photometric_terms(scene, parts.rendering),
        **consistency_terms(scene, parts),
    }


def test_every_term_and_the_sum(scene, parts):
    probe = jnp.zeros((PAIRS, scene.prototypes.active.shape[0], 2))
    settings = RenderSettings(SIZE, "reference")
    loss, objective = jax.jit(
        lambda params: full_objective(params, probe, *scene[1:], WEIGHTS, settings),
    )(scene.params)
    terms = expected_terms(scene, parts)
    assert terms.keys() == TERMS.keys()
    assert objective.terms.keys() == terms.keys() | {"psnr"}
    for name, value in terms.items():
        assert value > 1e-3, name
        np.testing.assert_allclose(objective.terms[name], value, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(loss, sum(TERMS[name] * value for name, value in terms.items()), rtol=1e-4)
    squared = (np.asarray(parts.rendering.surfels.color) - np.asarray(scene.batch.target.image, np.float64)) ** 2
    np.testing.assert_allclose(objective.terms["psnr"], -10 * np.log10(squared.mean()), rtol=1e-4)
    np.testing.assert_array_equal(objective.finite, [True, True])
    np.testing.assert_array_equal(objective.overflow, np.zeros((PAIRS, 2)))


def test_true_shapes_are_one_more_term_where_a_run_has_them(scene):
    """Of the source, by its record: the target's record has another truth here."""
    rng = np.random.default_rng(3)
    modes = scene.assets.model.identity_basis.shape[0]
    truth = TrueShapes(jnp.asarray(rng.normal(size=(4, modes))), jnp.asarray(rng.normal(size=(modes, 6))))
    told = scene._replace(
        assets=scene.assets._replace(truth=truth), batch=scene.batch._replace(record=jnp.array([[2, 0], [1, 3]]))
    )
    weights = dataclasses.replace(WEIGHTS, true_shape=0.3)

    def objective(scene: Scene, weights: LossWeights) -> Any:
        arguments = (scene.networks, scene.assets, scene.batch, weights, SIZE)
        loss, objective = jax.jit(lambda params: geometry_objective(params, *arguments))(scene.params)
        return loss, objective.terms

    loss, terms = objective(told, weights)
    shape = np.asarray(scene.params["estimator"].estimate.head.shape, np.float64)[:PAIRS]
    expected = (((shape - np.asarray(truth.shapes)[[2, 1]]) @ np.asarray(truth.normal_modes)) ** 2).mean()
    np.testing.assert_allclose(terms["true_shape"], expected, rtol=1e-4)
    np.testing.assert_allclose(loss - objective(scene, WEIGHTS)[0], 0.3 * expected, rtol=1e-4)


def test_the_geometry_objective_is_its_four_terms(scene, parts):
    loss, objective = jax.jit(
        lambda params: geometry_objective(params, scene.networks, scene.assets, scene.batch, WEIGHTS, SIZE),
    )(scene.params)
    terms = expected_terms(scene, parts)
    names = ("landmarks_source", "landmarks_target", "shape", "expression")
    assert objective.terms.keys() == set(names)
    np.testing.assert_allclose(loss, sum(TERMS[name] * terms[name] for name in names), rtol=1e-4)
