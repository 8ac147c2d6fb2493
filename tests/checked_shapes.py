"""Run by test_shapes.py with annotations checked: whole programs are traced, which calls every function of theirs."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
import tileraster

from sheap_jax import assembly, geometry
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import start
from sheap_jax.training.densify import make_densify
from sheap_jax.training.step import make_step
from sheap_jax.types import Batch, Frame
from tests.training.conftest import SIZE, make_config


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="points"):
        geometry.project(jnp.zeros((3, 2)), geometry.official_camera(8))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_splats(axes, implementation):
    rasterize = {2: tileraster.rasterize_surfels, 3: tileraster.rasterize_ellipsoids}[axes]
    shapes = [floats(2, 30, *own) for own in ((3,), (4,), (axes,), (), (3,))] + [floats(2, 4, 4), floats(2, 3, 3)]

    def loss(*arrays):
        image = rasterize(*arrays, width=40, height=20, implementation=implementation)
        return jnp.sum(image.color) + jnp.sum(image.depth)

    gradients = jax.eval_shape(jax.grad(loss, argnums=tuple(range(7))), *shapes)
    assert [gradient.shape for gradient in gradients] == [one.shape for one in shapes]


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas_tpu_interpret"])
def test_triangles(implementation):
    faces = jnp.zeros((50, 3), jnp.int32)

    def loss(vertices, viewmats, intrinsics):
        options = {"width": 40, "height": 20, "implementation": implementation}
        image = tileraster.rasterize_mesh(vertices, faces, viewmats, intrinsics, **options, cull_backfaces=True)
        return jnp.sum(image.depth) + jnp.sum(image.normal)

    shapes = floats(2, 60, 3), floats(2, 4, 4), floats(2, 3, 3)
    gradients = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2)), *shapes)
    assert [gradient.shape for gradient in gradients] == [one.shape for one in shapes]


@pytest.mark.parametrize("rendered", [False, True])
def test_a_training_step(tmp_path, rendered):
    config = make_config(tmp_path)
    config = dataclasses.replace(config, losses=dataclasses.replace(config.losses, mean_share=0.5))
    model = load_morphable(config.morphable)
    assets, networks = assembly.build_assets(config, model), assembly.build_networks(config, model)
    state = jax.eval_shape(lambda constants: start.initial_state(config, networks, constants), assets)
    frame = Frame(floats(2, SIZE, SIZE, 3), floats(2, 68, 2), floats(2, 68))
    batch = Batch(frame, frame, jax.ShapeDtypeStruct((2, 2), jnp.int32))
    settings = assembly.render_settings(config)
    step = make_step(networks, start.build_optimizers(config), config.losses, settings, rendered=rendered)
    after, report = jax.eval_shape(step, state, assets, batch)
    assert report.finite.shape == (2,)
    assert jax.tree.map(jnp.shape, jax.eval_shape(make_densify(share=0.1), after)) == jax.tree.map(jnp.shape, state)
