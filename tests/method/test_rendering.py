"""Rendering: arguments reach the rasteriser, and device meshes give the same pictures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tileraster

from sheap_jax.geometry import official_camera, project
from sheap_jax.method import reanimation
from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.rendering import render_mesh, render_surfels
from sheap_jax.types import Camera, Surfels

ROOT = Path(__file__).parents[2]
SIZE = 16
CAMERA = official_camera(SIZE)
COLORS = jnp.broadcast_to(jnp.array([0.9, 0.5, 0.1]), (2, 1, 3))


def one_surfel(x: float = 0.0, y: float = 0.0) -> Surfels:
    """One wide surfel per image, facing the camera; the second image's stands to the subject's left."""
    return Surfels(
        means=jnp.array([[[x, y, 0.0]], [[x + 0.05, y, 0.0]]]),
        quats=jnp.broadcast_to(jnp.array([1.0, 0, 0, 0]), (2, 1, 4)),
        scales=jnp.full((2, 1, 3), 0.03),
        opacities=jnp.full((2, 1), 0.9),
        albedo=jnp.full((2, 1, 3), 0.5),
    )


def render(surfels: Surfels, *, camera: Camera = CAMERA, implementation: str | None = "reference", **options):
    return render_surfels(surfels, COLORS, camera, width=SIZE, height=SIZE, implementation=implementation, **options)


def test_surfels_appear_where_they_project_over_the_background():
    background = jnp.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    image = render(one_surfel(), background=background, implementation=None)
    for k in range(2):
        row, column = np.unravel_index(np.argmax(image.alpha[k]), (SIZE, SIZE))
        x, y = project(one_surfel().means[k], CAMERA)[0]
        assert abs(column + 0.5 - x) <= 1
        assert abs(row + 0.5 - y) <= 1
        np.testing.assert_allclose(image.color[k, 0, 0], background[k], atol=0.02)
        peak = image.alpha[k, row, column]
        mixed = peak * COLORS[k, 0] + (1 - peak) * background[k]
        np.testing.assert_allclose(image.color[k, row, column], mixed, atol=1e-5)
    assert (image.overflow == 0).all()


def test_a_flat_ellipsoid_looks_like_a_surfel_and_a_thick_one_shows_its_side():
    """A quarter turn later the surfel is a line and the ellipsoid as wide as it is thick."""
    flat, turned = one_surfel(), jnp.broadcast_to(jnp.array([0.5**0.5, 0, 0.5**0.5, 0]), (2, 1, 4))
    flat = flat._replace(scales=flat.scales.at[..., 2].set(1e-4))
    surfels, ellipsoids = render(flat), render(flat, primitive="ellipsoids")
    np.testing.assert_allclose(ellipsoids.color, surfels.color, atol=0.04)  # blurred by 0.3 square pixels
    side = flat._replace(quats=turned)
    assert render(side).alpha[0].sum() < 0.2 * surfels.alpha[0].sum()
    thick = render(side._replace(scales=side.scales.at[..., 2].set(0.03)), primitive="ellipsoids")
    np.testing.assert_allclose(thick.alpha[0].sum(), ellipsoids.alpha[0].sum(), rtol=0.02)


def test_an_unknown_primitive_is_refused():
    with pytest.raises(ValueError, match="surfels, ellipsoids"):
        render(one_surfel(), primitive="cubes")


def test_one_camera_serves_all_images():
    each = Camera(jnp.stack([CAMERA.viewmat] * 2), jnp.stack([CAMERA.intrinsics] * 2))
    for one, two in zip(render(one_surfel()), render(one_surfel(), camera=each), strict=True):
        np.testing.assert_array_equal(one, two)


def test_probe_gradient_is_that_of_moving_the_surfel_on_the_screen():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)), jnp.float32)
    loss = jax.jit(lambda surfels, probe: jnp.sum(weights * render(surfels, screen_probe=probe).color))
    gradient = jax.jit(jax.grad(loss, argnums=1))(one_surfel(), jnp.zeros((2, 1, 2)))
    step = 0.02  # pixels; one metre away a pixel is 1 / focal metres
    metres = step / float(CAMERA.intrinsics[0, 0])
    still = jnp.zeros((2, 1, 2))
    across = loss(one_surfel(x=metres), still) - loss(one_surfel(x=-metres), still)
    down = loss(one_surfel(y=-metres), still) - loss(one_surfel(y=metres), still)
    expected = np.array([across, down]) / (2 * step)
    np.testing.assert_allclose(gradient.sum(axis=(0, 1)), expected, rtol=0.03)


def test_mesh_depth_is_the_distance_to_the_triangle():
    vertices = jnp.array([[[-0.2, -0.2, 0.1], [0.2, -0.2, 0.1], [0.0, 0.3, 0.1]]])
    image = render_mesh(vertices, jnp.array([[0, 1, 2]]), CAMERA, width=SIZE, height=SIZE)
    assert image.mask[0, SIZE // 2, SIZE // 2]
    np.testing.assert_allclose(image.depth[0, SIZE // 2, SIZE // 2], 0.9, rtol=1e-5)
    np.testing.assert_allclose(image.normal[0, SIZE // 2, SIZE // 2], [0, 0, -1], atol=1e-5)


def test_the_lengths_of_the_lists_reach_the_rasteriser(monkeypatch):
    found = {}

    def record(name):
        def rasterize(*arrays, max_intersections, **options):
            found[name] = max_intersections

        return rasterize

    for name in ("rasterize_surfels", "rasterize_mesh"):
        monkeypatch.setattr(tileraster, name, record(name))
    assets = SimpleNamespace(model=SimpleNamespace(faces=jnp.zeros((1, 3), jnp.int32)), camera=CAMERA)
    avatar = SimpleNamespace(surfels=one_surfel(), colors=COLORS)
    settings = RenderSettings(SIZE, surfel_capacity=128, mesh_capacity=64)
    render_both: Any = reanimation.render
    render_both(assets, avatar, jnp.zeros((2, 3, 3)), jnp.zeros((2, 3)), **settings._asdict())
    assert found == {"rasterize_surfels": 128, "rasterize_mesh": 64}
