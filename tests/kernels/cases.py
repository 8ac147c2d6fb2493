"""Scenes and helpers that the tests of all implementations share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tileraster import SurfelImage, rasterize_surfels

IMPLEMENTATIONS = ("reference", "xla")
# Not divisible by the tile, wider than high.
SIZE = {"width": 21, "height": 13}
OUTPUTS = ("color", "alpha", "depth", "normal", "distortion")


class Scene(NamedTuple):
    """The arrays of a call, in the order of the arguments."""

    means: Array
    quats: Array
    scales: Array
    opacities: Array
    colors: Array
    viewmats: Array
    intrinsics: Array


def camera(dtype=jnp.float32):
    viewmat = jnp.eye(4, dtype=dtype).at[:3, 3].set(jnp.array([0.02, -0.03, 0.1], dtype))
    return viewmat, jnp.array([[18.0, 0, 10.2], [0, 17.0, 6.6], [0, 0, 1]], dtype)


def random_scene(seed: int, count: int, *, dtype=jnp.float32, channels: int = 3) -> Scene:
    """Surfels of all sizes and directions, some outside the image and some behind the camera."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(-0.3, 4.0, size=count)
    direction = rng.uniform([-0.8, -0.6], [0.8, 0.6], size=(count, 2))
    means = np.concatenate([direction * depth[:, None], depth[:, None]], axis=1)
    scales = np.exp(rng.uniform(np.log(0.005), np.log(0.4), size=(count, 2)))
    arrays = (
        means,
        rng.normal(size=(count, 4)),
        scales,
        rng.uniform(0, 1, size=count),
        rng.uniform(size=(count, channels)),
    )
    return Scene(*(jnp.asarray(value, dtype) for value in arrays), *camera(dtype))


def facing_surfel(*, depth=2.0, scale=0.2, opacity=0.8, quat=(1.0, 0, 0, 0), mean=(0.0, 0.0)) -> Scene:
    """One red surfel, by default parallel to the image."""
    viewmat, intrinsics = jnp.eye(4), camera()[1]
    return Scene(
        means=jnp.array([[*mean, depth]], jnp.float32),
        quats=jnp.array([quat], jnp.float32),
        scales=jnp.full((1, 2), scale, jnp.float32),
        opacities=jnp.array([opacity], jnp.float32),
        colors=jnp.array([[1.0, 0, 0]]),
        viewmats=viewmat,
        intrinsics=intrinsics,
    )


def concatenate(*scenes: Scene) -> Scene:
    """All surfels, seen by the first scene's camera."""
    surfels = (jnp.concatenate(parts) for parts in zip(*(scene[:5] for scene in scenes), strict=True))
    return Scene(*surfels, *scenes[0][5:])


def render(scene: Scene, implementation: str, **options) -> SurfelImage:
    return rasterize_surfels(*scene, **{**SIZE, **options}, implementation=implementation)


def smooth_loss(image: SurfelImage) -> Array:
    """A scalar in which every differentiable output counts, with different weights at every pixel."""
    total = jnp.zeros((), image.alpha.dtype)
    for k, name in enumerate(OUTPUTS):
        value = getattr(image, name)
        weight = jnp.cos(jnp.arange(value.size, dtype=value.dtype) * (0.7 + 0.1 * k) + k)
        total += jnp.sum(weight * value.reshape(-1))
    return total


def gradients(scene: Scene, implementation: str, **options) -> Scene:
    return jax.grad(lambda inputs: smooth_loss(render(inputs, implementation, **options)))(scene)


def all_finite(tree) -> bool:
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree))


def relative_error(value, truth) -> float:
    value, truth = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    return float(np.linalg.norm(value - truth) / max(np.linalg.norm(truth), 1e-12))
