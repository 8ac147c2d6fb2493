"""Scenes and helpers that the tests of all implementations share.

Compiling takes most of the time, so everything is padded to one shape: COUNT surfels (the padding has opacity 0) on
one image size. There is one program per implementation and dtype, which returns the image and all gradients.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tileraster import SurfelImage, rasterize_surfels

IMPLEMENTATIONS = ("reference", "xla")
INTERPRETED = ("pallas_tpu_interpret", "pallas_gpu_interpret")
# The hand-written kernels that this machine can run: its own where it has any, else all of them, interpreted.
KERNELS = {"tpu": ("pallas_tpu",), "gpu": ("pallas_gpu",)}.get(jax.default_backend(), INTERPRETED)
# Interpreted kernels are large programs that run for milliseconds: all time goes into compiling them.
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SIZE = {"width": 50, "height": 44}  # not divisible by the tile
COUNT = 64
OUTPUTS = ("color", "alpha", "depth", "normal", "distortion")  # the differentiable ones
SURFELS = ("means", "quats", "scales", "opacities", "colors")


class Scene(NamedTuple):
    """The arrays of a call, in the order of the arguments."""

    means: Array
    quats: Array
    scales: Array
    opacities: Array
    colors: Array
    viewmats: Array
    intrinsics: Array
    background: Array


class Rendering(NamedTuple):
    image: SurfelImage
    gradients: Scene
    screen: Array  # gradient of the screen probe


def camera(dtype=jnp.float32):
    viewmat = jnp.eye(4, dtype=dtype).at[:3, 3].set(jnp.array([0.02, -0.03, 0.1], dtype))
    return viewmat, jnp.array([[18.0, 0, 10.2], [0, 17.0, 6.6], [0, 0, 1]], dtype)


def random_scene(seed: int, count: int, *, dtype=jnp.float32, channels: int = 3) -> Scene:
    """Surfels of all sizes and directions, some outside the image and some behind the camera."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(-0.3, 4.0, size=count)
    direction = rng.uniform([-0.6, -0.5], [2.2, 2.2], size=(count, 2))
    arrays = (
        np.concatenate([direction * depth[:, None], depth[:, None]], axis=1),
        rng.normal(size=(count, 4)),
        np.exp(rng.uniform(np.log(0.005), np.log(0.4), size=(count, 2))),
        rng.uniform(0, 1, size=count),
        rng.uniform(size=(count, channels)),
    )
    return Scene(*(jnp.asarray(value, dtype) for value in arrays), *camera(dtype), jnp.zeros(channels, dtype))


def facing_surfel(*, depth=2.0, scale=0.2, opacity=0.8, quat=(1.0, 0, 0, 0), mean=(0.0, 0.0)) -> Scene:
    """One red surfel, by default parallel to the image."""
    return Scene(
        means=jnp.array([[*mean, depth]], jnp.float32),
        quats=jnp.array([quat], jnp.float32),
        scales=jnp.full((1, 2), scale, jnp.float32),
        opacities=jnp.array([opacity], jnp.float32),
        colors=jnp.array([[1.0, 0, 0]]),
        viewmats=jnp.eye(4),
        intrinsics=camera()[1],
        background=jnp.zeros(3),
    )


def concatenate(*scenes: Scene) -> Scene:
    """All surfels, seen by the first scene's camera."""
    surfels = (jnp.concatenate(parts) for parts in zip(*(scene[:5] for scene in scenes), strict=True))
    return Scene(*surfels, *scenes[0][5:])


def padded(scene: Scene) -> Scene:
    """COUNT surfels; the added ones have opacity 0."""
    missing = COUNT - len(scene.means)
    surfels = (jnp.pad(value, ((0, missing),) + ((0, 0),) * (value.ndim - 1)) for value in scene[:5])
    return Scene(*surfels, *scene[5:])


def call(scene: Scene, implementation: str | None, **options) -> SurfelImage:
    """The plain public call."""
    options = {**SIZE, "background": scene.background, **options}
    return rasterize_surfels(*scene[:7], **options, implementation=implementation)


def smooth_weights(dtype=jnp.float32, channels: int = 3) -> dict[str, Array]:
    """Different weights for every output and pixel: the loss is the sum of weight * output."""
    shape = (SIZE["height"], SIZE["width"])
    shapes = {"color": (*shape, channels), "normal": (*shape, 3)}
    weights = {}
    for k, name in enumerate(OUTPUTS):
        size = shapes.get(name, shape)
        index = jnp.arange(np.prod(size), dtype=dtype)
        weights[name] = jnp.cos(index * (0.7 + 0.1 * k) + k).reshape(size)
    return weights


def _render(scene: Scene, weights: dict[str, Array], implementation: str) -> Rendering:
    def loss(scene: Scene, probe: Array) -> tuple[Array, SurfelImage]:
        image = call(scene, implementation, screen_probe=probe)
        return sum(jnp.sum(weights[name] * getattr(image, name)) for name in OUTPUTS), image

    probe = jnp.zeros((COUNT, 2), scene.means.dtype)
    (gradients, screen), image = jax.grad(loss, argnums=(0, 1), has_aux=True)(scene, probe)
    return Rendering(image, gradients, screen)


@functools.cache
def _program(implementation: str) -> Callable[..., Rendering]:
    options = QUICK_TO_COMPILE if implementation in INTERPRETED else {}
    return jax.jit(functools.partial(_render, implementation=implementation), compiler_options=options)


def render(scene: Scene, implementation: str, weights: dict[str, Array] | None = None) -> Rendering:
    """Image and gradients, those of the padding removed."""
    count = len(scene.means)
    weights = smooth_weights(scene.means.dtype) if weights is None else weights
    full = _program(implementation)(padded(scene), weights)
    gradients = Scene(*(value[:count] for value in full.gradients[:5]), *full.gradients[5:])
    return Rendering(full.image, gradients, full.screen[:count])


def all_finite(tree) -> bool:
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree))


def relative_error(value, truth) -> float:
    value, truth = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    return float(np.linalg.norm(value - truth) / max(np.linalg.norm(truth), 1e-12))
