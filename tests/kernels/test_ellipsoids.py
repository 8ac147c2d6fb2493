"""Ellipsoids against an independent float64 brute force in NumPy: images, and gradients by finite differences."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tileraster import rasterize_ellipsoids

IMPLEMENTATIONS = ("reference", "xla")
SIZE = {"width": 50, "height": 44}  # not divisible by the tile
COUNT = 40
OUTPUTS = ("color", "alpha", "depth")


class Scene(NamedTuple):
    """Arrays of a call in the order of the arguments, float64."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    colors: np.ndarray
    viewmats: np.ndarray
    intrinsics: np.ndarray
    background: np.ndarray


class Truth(NamedTuple):
    color: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray
    median_depth: np.ndarray
    safe: np.ndarray  # pixels where no threshold is near


def random_scene(seed: int) -> Scene:
    """All sizes and directions, some outside the image, beyond the clamp, and behind the camera."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(-0.2, 4.0, COUNT)
    direction = rng.uniform([-1.5, -1.0], [3.5, 3.0], (COUNT, 2))
    viewmat = np.eye(4)
    viewmat[:3, :3] = Rotation.from_rotvec([0.05, -0.08, 0.1]).as_matrix()
    viewmat[:3, 3] = [0.02, -0.03, 0.1]
    return Scene(
        np.concatenate([direction * depth[:, None], depth[:, None]], axis=1),
        rng.normal(size=(COUNT, 4)),
        np.exp(rng.uniform(np.log(0.01), np.log(0.4), (COUNT, 3))),
        rng.uniform(0, 1, COUNT),
        rng.uniform(size=(COUNT, 3)),
        viewmat,
        np.array([[18.0, 0, 10.2], [0, 17.0, 6.6], [0, 0, 1]]),
        rng.uniform(size=3),
    )


def brute_force(scene: Scene, probe: np.ndarray | None = None) -> Truth:
    """Kerbl et al. 2023 one ellipsoid after the other, float64."""
    y, x = np.mgrid[: SIZE["height"], : SIZE["width"]] + 0.5
    rotation, (fx, fy) = scene.viewmats[:3, :3], np.diag(scene.intrinsics)[:2]
    cx, cy = scene.intrinsics[:2, 2]
    centers = scene.means @ rotation.T + scene.viewmats[:3, 3]
    left = np.ones_like(x)
    color, depth, median, safe = np.zeros((*x.shape, 3)), np.zeros_like(x), np.zeros_like(x), np.ones_like(x, bool)
    done = np.zeros_like(safe)
    for i in np.argsort(centers[:, 2], kind="stable"):
        px, py, z = centers[i]
        if z <= 0.01:
            continue
        axes = Rotation.from_quat(np.roll(scene.quats[i], -1)).as_matrix()
        sx = np.clip(px / z, (-cx - 0.15 * SIZE["width"]) / fx, (1.15 * SIZE["width"] - cx) / fx)
        sy = np.clip(py / z, (-cy - 0.15 * SIZE["height"]) / fy, (1.15 * SIZE["height"] - cy) / fy)
        jacobian = np.array([[fx / z, 0, -fx * sx / z], [0, fy / z, -fy * sy / z]]) @ rotation
        covariance = jacobian @ axes @ np.diag(scene.scales[i] ** 2) @ axes.T @ jacobian.T + 0.3 * np.eye(2)
        shift = np.zeros(2) if probe is None else probe[i]
        d = np.stack([x - fx * px / z - cx - shift[0], y - fy * py / z - cy - shift[1]], axis=-1)
        alpha = scene.opacities[i] * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, np.linalg.inv(covariance), d))
        safe &= np.abs(alpha - 1 / 255) > 1e-5
        alpha = np.where(alpha >= 1 / 255, np.minimum(alpha, 0.99), 0)
        after = left * (1 - alpha)
        safe &= np.abs(after - 1e-4) > 1e-6
        done |= after <= 1e-4
        weight = np.where(done, 0, alpha * left)
        safe &= np.abs(left - 0.5) > 1e-4
        median = np.where((weight > 0) & (left > 0.5), z, median)
        color, depth = color + weight[..., None] * scene.colors[i], depth + weight * z
        left = np.where(done, left, after)
    return Truth(color + left[..., None] * scene.background, 1 - left, depth, median, safe)


def call(scene, implementation, probe=None):
    arrays = [jnp.asarray(value, jnp.float32) for value in scene]
    probe = None if probe is None else jnp.asarray(probe, jnp.float32)
    return rasterize_ellipsoids(
        *arrays[:7], background=arrays[7], screen_probe=probe, implementation=implementation, **SIZE
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_images_are_those_of_the_brute_force(seed, implementation):
    scene = random_scene(seed)
    image, truth = call(scene, implementation), brute_force(scene)
    assert truth.safe.mean() > 0.9
    for name in (*OUTPUTS, "median_depth"):
        found, expected = np.asarray(getattr(image, name)), getattr(truth, name)
        np.testing.assert_allclose(found[truth.safe], expected[truth.safe], atol=2e-4, err_msg=name)
    assert int(image.overflow) == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("size", [1e9, 1e30])
def test_enormous_ellipsoids_are_those_of_the_brute_force(size, implementation):
    scene = random_scene(0)
    scene.scales[4:6] = size
    if implementation != "reference":  # whose matrices float32 cannot invert for needles
        scene.scales[:4, 0] = size
    image, truth = call(scene, implementation), brute_force(scene._replace(scales=np.minimum(scene.scales, 1e5)))
    for name in OUTPUTS:
        found, expected = np.asarray(getattr(image, name)), getattr(truth, name)
        np.testing.assert_allclose(found[truth.safe], expected[truth.safe], atol=5e-4, err_msg=name)

    def loss(scales):
        image = call(scene._replace(scales=scales), implementation)
        return jnp.sum(image.color**2) + jnp.sum(image.depth)

    gradient = np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(scene.scales, jnp.float32)))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_sphere_before_the_camera_is_its_gaussian(implementation):
    """On the axis S is diagonal: (fx s / z)^2 + 0.3 and (fy s / z)^2 + 0.3."""
    scene = random_scene(0)._replace(viewmats=np.eye(4), background=np.zeros(3))
    opacities, means = np.zeros(COUNT), np.tile([0.0, 0.0, 2.0], (COUNT, 1))
    opacities[3] = 0.8
    scene = scene._replace(opacities=opacities, means=means, scales=np.full((COUNT, 3), 0.3))
    y, x = np.mgrid[: SIZE["height"], : SIZE["width"]] + 0.5
    variance = (np.array([18.0, 17.0]) * 0.15) ** 2 + 0.3
    alpha = 0.8 * np.exp(-0.5 * ((x - 10.2) ** 2 / variance[0] + (y - 6.6) ** 2 / variance[1]))
    expected = np.where(alpha >= 1 / 255, alpha, 0)
    clear = np.abs(alpha - 1 / 255) > 1e-5
    np.testing.assert_allclose(np.asarray(call(scene, implementation).alpha)[clear], expected[clear], atol=1e-5)


def smooth_weights() -> dict[str, np.ndarray]:
    shape = (SIZE["height"], SIZE["width"])
    index = np.arange(shape[0] * shape[1] * 3)
    weights = np.cos(0.7 * index).reshape(*shape, 3)
    return {"color": weights, "alpha": weights[..., 0] - 0.3, "depth": 0.2 * weights[..., 1]}


@functools.cache
def gradients(implementation: str) -> tuple:
    weights = smooth_weights()

    def loss(scene, probe):
        image = call(scene, implementation, probe)
        return sum(jnp.sum(jnp.asarray(weights[name], jnp.float32) * getattr(image, name)) for name in OUTPUTS)

    scene = Scene(*(jnp.asarray(value, jnp.float32) for value in random_scene(2)))
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(scene, jnp.zeros((COUNT, 2), jnp.float32))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", [*Scene._fields, "screen_probe"])
def test_gradients_agree_with_finite_differences(name, implementation):
    """Along random directions, on the float64 brute force."""
    scene, weights, step = random_scene(2), smooth_weights(), 1e-6
    found = gradients(implementation)
    gradient = np.asarray(found[1] if name == "screen_probe" else getattr(found[0], name), np.float64)
    rng = np.random.default_rng(3)

    def loss(direction: np.ndarray, amount: float) -> float:
        if name == "screen_probe":
            truth = brute_force(scene, amount * direction)
        else:
            truth = brute_force(scene._replace(**{name: getattr(scene, name) + amount * direction}))
        return sum(np.sum(weights[output] * getattr(truth, output)) for output in OUTPUTS)

    for _ in range(3):
        direction = rng.normal(size=gradient.shape)
        if name == "intrinsics":
            direction *= [[1, 0, 1], [0, 1, 1], [0, 0, 0]]  # the other entries are ignored
        if name == "viewmats":
            direction[3] = 0
        expected = (loss(direction, step) - loss(direction, -step)) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=5e-3, abs=2e-3 * np.linalg.norm(gradient))


def test_implementations_agree_on_every_gradient():
    for name in Scene._fields:
        one, other = (np.asarray(getattr(gradients(kind)[0], name)) for kind in IMPLEMENTATIONS)
        assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(one), name


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batches_are_independent_and_nan_stays_in_its_image(implementation):
    scenes = [random_scene(seed) for seed in (0, 1)]
    batch = Scene(*(np.stack(parts) for parts in zip(*scenes, strict=True)))
    batch.scales[1, 4, 2] = np.nan
    image = call(batch, implementation)
    np.testing.assert_allclose(image.color[0], call(scenes[0], implementation).color, atol=1e-6)
    assert np.isnan(np.asarray(image.color[1])).all()


def test_scales_need_three_columns():
    scene = random_scene(0)
    with pytest.raises(ValueError, match="scales"):
        call(scene._replace(scales=scene.scales[:, :2]), "xla")
