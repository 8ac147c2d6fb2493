"""The pictures agree with the geometry, and the parts of the renderer with analytic cases."""

import cv2
import numpy as np
import pytest

from sheap_jax.config import EmbeddedData
from sheap_jax.cropping import crop_box
from sheap_jax.data.embedded.clip import film
from sheap_jax.data.embedded.detector import draw_noise, frame_heads
from sheap_jax.data.embedded.occlusion import light_transfer, template_normals, unshadowed_transfer
from sheap_jax.data.embedded.people import draw_person
from sheap_jax.data.embedded.render import linear_to_srgb
from sheap_jax.data.embedded.scene_meshes import build_scene_meshes
from sheap_jax.geometry import official_camera, project
from sheap_jax.method.lighting import LAMBERT_FACTORS, sh_basis
from sheap_jax.morphable.embedded.head import embedded_head

SIZE = 64


@pytest.fixture(scope="module")
def filmed():
    config = EmbeddedData(1, 1, 1, 2, image_size=SIZE, people="embedded:coarse", processes=1)
    model = embedded_head(detail="coarse")
    return film(draw_person("train", 0, config, model), model, build_scene_meshes(model), config)


def test_rendered_head_lies_within_the_projected_mesh(filmed):
    """Independent mask: the mesh's triangles filled by OpenCV. Hair hides part of the head, so it is a subset."""
    faces = np.asarray(embedded_head(detail="coarse").faces)
    for posed, seen in zip(filmed.posed, filmed.head, strict=True):
        pixels = np.asarray(project(posed, official_camera(SIZE)))
        silhouette = np.zeros((SIZE, SIZE), np.uint8)
        for triangle in pixels[faces]:
            cv2.fillConvexPoly(silhouette, np.round((triangle - 0.5) * 16).astype(np.int32), 1, shift=4)
        grown = cv2.dilate(silhouette, np.ones((3, 3), np.uint8)) > 0
        assert not (seen & ~grown).any()
        assert seen.sum() > 0.5 * silhouette.sum()


def test_landmarks_of_the_inner_face_are_on_visible_head(filmed):
    for points, seen in zip(filmed.landmarks2d, filmed.head, strict=True):
        column, row = points[27:48].astype(int).T
        assert seen[row, column].mean() > 0.85


def test_sphere_throws_no_shadow_on_itself():
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces)
    error = light_transfer(vertices, faces) - unshadowed_transfer(template_normals(vertices, faces))
    assert np.abs(error).max() < 0.12  # of a largest coefficient of 2


def test_a_roof_takes_the_light_from_above():
    """Under a plate of 0.3 m, 0.03 m overhead, hardly anything of the sky is left: only grazing light comes in."""
    import trimesh

    floor = trimesh.creation.box([0.1, 0.002, 0.1])
    roof = trimesh.creation.box([0.3, 0.002, 0.3]).apply_translation([0, 0.03, 0]).subdivide_to_size(0.012)
    both = trimesh.util.concatenate([floor.subdivide_to_size(0.03), roof])
    vertices, faces = np.asarray(both.vertices, np.float32), np.asarray(both.faces)
    top = np.argmin(np.linalg.norm(vertices - [0, 0.001, 0], axis=1))
    overhead = np.asarray(sh_basis(np.array([0.0, 1.0, 0.0], np.float32)))
    open_sky = float(overhead * LAMBERT_FACTORS @ overhead)
    assert light_transfer(vertices, faces)[top] @ overhead < 0.1 * open_sky


def test_frame_heads_meets_the_crop_rule_without_jitter():
    rng = np.random.default_rng(0)
    cloud = rng.normal(0, 0.04, (3, 68, 3))
    noise = draw_noise(rng, 3, level=0.01, missing=0.05)
    framing = frame_heads(cloud, noise, np.zeros((3, 3)), size=SIZE)
    for points, weights in zip(framing.detected, noise.weights, strict=True):
        box = crop_box(points[weights > 0])
        np.testing.assert_allclose(box.center, [SIZE / 2] * 2, atol=0.1)
        assert box.half == pytest.approx(SIZE / 2, abs=0.1)
    moved = np.asarray(project((cloud + framing.translation[:, None]).astype(np.float32), official_camera(SIZE)))
    np.testing.assert_allclose(moved, framing.exact, atol=1e-3)


def test_detector_noise_has_the_stated_size():
    noise = draw_noise(np.random.default_rng(1), 4000, level=0.012, missing=0.02)
    found = noise.weights > 0
    assert 1 - found.mean() == pytest.approx(0.02, abs=0.002)
    inner = noise.offset - noise.offset[:, 17:].mean(axis=1, keepdims=True)
    assert inner[:, 17:][found[:, 17:]].std() == pytest.approx(0.012, rel=0.05)
    assert inner[:, :17][found[:, :17]].std() > 0.02


def test_camera_response_is_srgb_below_the_shoulder():
    np.testing.assert_allclose(linear_to_srgb(np.array([0.0, 0.002, 0.2140])), [0, 0.02584, 0.5], atol=1e-3)
    assert linear_to_srgb(np.array([50.0]))[0] <= 1.0
