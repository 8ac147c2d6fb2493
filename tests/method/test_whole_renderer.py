"""From head parameters to pixels: morphable model, binding, light and rasteriser together, differentiated.

Pictures teach geometry through this chain alone, so its gradient is compared with finite differences as one piece, and
gradient descent on the picture has to find a pose and an expression back.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float

from sheap_jax import geometry
from sheap_jax.method import lighting, reanimation, rendering
from sheap_jax.method.losses.photometric import gradient_error, l1_error, ssim_error
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.morphable import MorphableModel, forward
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import Camera, HeadParams, LocalSurfels, PrototypeState
from tests.training.conftest import ellipsoid


class Head(NamedTuple):
    """A head of surfels whose colours vary smoothly, in a light from one side: every parameter shows."""

    model: MorphableModel
    prototypes: PrototypeState
    local: LocalSurfels
    light: Float[Array, "9 3"]


def coloured_head(dtype=jnp.float32) -> Head:
    rng = np.random.default_rng(0)
    model = ellipsoid()
    prototypes = init_prototypes(model.faces.shape[0], per_face=1)
    count = prototypes.parent_face.shape[0]
    centres = np.asarray(model.template)[np.asarray(model.faces)].mean(axis=1)
    local = LocalSurfels(
        offset=0.1 * rng.normal(size=(count, 3)),
        scale=rng.uniform(0.35, 0.5, (count, 3)),
        rotation=np.array([1.0, 0, 0, 0]) + 0.1 * rng.normal(size=(count, 4)),
        albedo=0.5 + 0.3 * np.sin(centres @ rng.normal(size=(3, 3)) * 40 + np.arange(3)),
        opacity=rng.uniform(0.6, 0.9, count),
    )
    prior = lighting.default_light_prior(5)
    light = lighting.coefficients(prior, jnp.asarray([1.0, -0.5, 0.5, 0.3, -0.3]))
    head = Head(model, prototypes, jax.tree.map(jnp.asarray, local), light)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, head)


def picture(head: Head, params: HeadParams, camera: Camera, *, size: int, **options) -> Float[Array, "b h w 3"]:
    batch = params.shape.shape[0]
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), (head.local, head.light))
    avatar = reanimation.pose_avatar(each[0], head.prototypes, forward(head.model, params), head.model.faces, each[1])
    return rendering.render_surfels(
        avatar.surfels,
        avatar.colors,
        camera,
        width=size,
        height=size,
        background=jnp.full((batch, 3), 0.3, camera.viewmat.dtype),
        **options,
    ).color


def photometric(rendered: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]) -> Float[Array, "b h w"]:
    return l1_error(rendered, target) + 0.2 * ssim_error(rendered, target) + 0.5 * gradient_error(rendered, target)


@pytest.mark.parametrize("primitive", ["surfels", pytest.param("ellipsoids", marks=pytest.mark.slow)])
def test_gradient_of_pictures_with_respect_to_head_parameters_is_that_of_finite_differences(primitive):
    """Shape, expression, pose and translation, in float64 with the plain renderer."""
    size = 16
    with jax.enable_x64(True):
        head = coloured_head(jnp.float64)
        camera = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), geometry.official_camera(size))
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda x: jnp.asarray(0.2 * rng.normal(size=x.shape)), mean_params(head.model, 1))
        params = params._replace(translation=0.05 * params.translation)
        target = jnp.asarray(rng.uniform(size=(1, size, size, 3)))  # noise: no pixel sits on the kink of L1

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            rendered = picture(head, params, camera, size=size, implementation="reference", primitive=primitive)
            return jnp.mean(photometric(rendered, target))

        _, gradient = loss(params)
        step = 1e-7
        for name in params._fields:
            direction = jnp.asarray(rng.normal(size=getattr(params, name).shape))
            ahead, behind = (
                loss(params._replace(**{name: getattr(params, name) + s * direction}))[0] for s in (step, -step)
            )
            along = jnp.sum(getattr(gradient, name) * direction)
            assert abs(along) > 1e-4, name
            np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_pictures_alone_bring_back_pose_and_expression():
    """Two perturbed starts, 8 degrees and 4 mm off, no landmarks: descent on the photometric loss finds the truth."""
    size, starts, steps = 24, 2, 80
    head, camera = coloured_head(), geometry.official_camera(size)
    rng = np.random.default_rng(2)
    zero = mean_params(head.model, starts)
    true = zero._replace(expression=jnp.asarray(rng.normal(size=zero.expression.shape), jnp.float32))
    turn = rng.normal(size=(starts, 3))
    turn *= np.deg2rad(8) / np.linalg.norm(turn, axis=1, keepdims=True)
    start = zero._replace(
        rotations=zero.rotations.at[:, 0].set(turn),
        translation=jnp.asarray(0.004 * rng.choice([-1.0, 1.0], (starts, 3)), jnp.float32) * jnp.array([1, 1, 0]),
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(1.0, steps))
    rates = HeadParams(shape=0.0, expression=0.1, rotations=0.02, translation=0.0006)

    @jax.jit
    def descend(start):
        target = picture(head, true, camera, size=size)

        def loss(params):
            return jnp.sum(jnp.mean(photometric(picture(head, params, camera, size=size), target), axis=(1, 2)))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            params = jax.tree.map(lambda x, rate, update: x + rate * update, params, rates, updates)
            return (params, state), None

        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
        return params

    def errors(params):
        """Mean vertex distance in mm."""
        distance = jnp.linalg.norm(forward(head.model, params) - forward(head.model, true), axis=-1)
        return 1e3 * np.asarray(distance).mean(axis=1)

    found = descend(start)
    before, after = errors(start), errors(found)
    assert before.min() > 5
    assert after.max() < 1, after
    expression = np.abs(np.asarray(found.expression - true.expression)).mean()
    assert expression < 0.1 * np.abs(true.expression).mean()


def test_pictures_may_tell_heads_apart_without_moving_all_of_them():
    """Share 0.25 of the mean gradient over the batch, and all that differs from it; motion gets its own gradient."""
    model = ellipsoid()
    params = jax.tree.map(lambda x: x + 0.1, mean_params(model, 3))
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(3, *model.template.shape)), jnp.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(share):
        def weighed(params):
            head = reanimation.PosedHead(params, forward(model, params), jnp.zeros((3, 68, 2)))
            return jnp.sum(weights * reanimation.share_mean(model, head, share).vertices)

        return jax.value_and_grad(weighed)(params)

    (value, whole), (same_value, part) = gradients(1.0), gradients(0.25)
    np.testing.assert_allclose(same_value, value, rtol=1e-5)
    mean = np.mean(whole.shape, axis=0)
    np.testing.assert_allclose(part.shape, whole.shape - 0.75 * mean, rtol=1e-3, atol=1e-4 * np.abs(mean).max())
    np.testing.assert_allclose(part.expression, whole.expression, rtol=1e-4)
