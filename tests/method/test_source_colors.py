"""The source's colours at the prototypes, against a camera and an interpolation written down here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from sheap_jax.geometry import official_camera
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.method.source_colors import FULLY_SEEN, seen_colors, unseen
from tests.training.conftest import ellipsoid

SIZE = 48
MODEL = ellipsoid()
PROTOTYPES = init_prototypes(len(MODEL.faces), per_face=2, capacity=170)  # ten slots are free


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """Two ellipsoids, one of them moved and turned."""
    angle = 0.6
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    template = np.asarray(MODEL.template)
    return np.stack([template, template @ turn.T + [0.02, -0.01, 0.05]]).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(2, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def found(heads, images):
    return jax.jit(seen_colors)(images, heads, MODEL, PROTOTYPES, official_camera(SIZE))


def corners_of(heads: np.ndarray) -> np.ndarray:
    """Corners of each prototype's face, [2, n, 3, 3]."""
    return heads[:, np.asarray(MODEL.faces)[np.asarray(PROTOTYPES.parent_face)]].astype(np.float64)


def test_colors_are_those_of_the_pixels_that_show_the_prototypes(heads, images, found):
    points = np.einsum("nk,bnkc->bnc", np.asarray(PROTOTYPES.barycentric, np.float64), corners_of(heads))
    focal = SIZE / (2 * np.tan(np.radians(14.2539) / 2))
    x = focal * points[..., 0] / (1 - points[..., 2]) + SIZE / 2  # seen from z = +1 m
    y = -focal * points[..., 1] / (1 - points[..., 2]) + SIZE / 2
    for image, column, row, color in zip(images, x, y, found.color, strict=True):
        place = np.stack([row, column]) - 0.5  # the centre of the first pixel is at 0.5
        for channel in range(3):
            expected = map_coordinates(image[..., channel], place, order=1, mode="nearest")
            np.testing.assert_allclose(color[:, channel], expected, atol=2e-4)


def test_what_looks_away_is_not_seen(heads, found):
    corners = corners_of(heads)
    normal = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    points = np.einsum("nk,bnkc->bnc", np.asarray(PROTOTYPES.barycentric), corners)
    ray = np.array([0, 0, 1.0]) - points
    cosine = np.sum(normal * ray, axis=-1) / np.linalg.norm(normal, axis=-1) / np.linalg.norm(ray, axis=-1)
    np.testing.assert_allclose(found.seen, np.clip(cosine / FULLY_SEEN, 0, 1), atol=1e-4)
    assert 0.2 < float((found.seen == 0).mean()) < 0.8


def test_no_gradient_reaches_the_head(heads, images):
    def total(heads):
        return sum(jnp.sum(value) for value in seen_colors(images, heads, MODEL, PROTOTYPES, official_camera(SIZE)))

    assert not jax.grad(total)(jnp.asarray(heads)).any()


def test_an_image_that_shows_nothing():
    colors = unseen(PROTOTYPES)
    assert colors.color.shape == (1, 170, 3)
    assert not colors.seen.any()
