"""Against the float64 golden files, which two independent renderers and finite differences agree on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tileraster import rasterize_surfels

OUTPUTS = {
    "color": ("rgb", "safe", 2e-4),
    "alpha": ("alpha", "safe", 2e-4),
    "depth": ("depth_acc", "safe", 5e-4),
    "median_depth": ("depth_median", "safe", 1e-4),
    "normal": ("normal_cam", "safe_normal", 5e-4),
    "distortion": ("distortion", "safe", 1e-5),
}
INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmat", "K", "background")
FILES = ("front_on", "edge_on", "opaque_stack", "random64", "head_shell_2000")
# The brute force needs most of a minute for the large file: its tiles are compared with the golden file instead.
CASES = [(name, "xla") for name in FILES] + [(name, "reference") for name in FILES[:-1]]
SLOW = pytest.param("head_shell_2000", "reference", marks=pytest.mark.slow)


def arguments(golden, dtype):
    return [jnp.asarray(golden[name], dtype) for name in INPUTS]


def image_of(inputs, golden, implementation):
    return rasterize_surfels(
        *inputs[:7],
        background=inputs[7],
        width=int(golden["width"]),
        height=int(golden["height"]),
        near=float(golden["near"]),
        implementation=implementation,
    )


def loss_of(inputs, golden, implementation):
    """loss_all of the golden files, and the image."""
    image = image_of(inputs, golden, implementation)
    total = 0.0
    for name, (key, _, _) in OUTPUTS.items():
        if name != "median_depth":
            value = getattr(image, name)
            total += jnp.sum(jnp.asarray(golden[f"w_{key}"], value.dtype) * value)
    return total, image


def check(golden, implementation, dtype, *, exact):
    inputs = arguments(golden, dtype)
    gradients, image = jax.grad(loss_of, has_aux=True)(inputs, golden, implementation)
    assert int(image.overflow) == 0
    for name, (key, safe, tolerance) in OUTPUTS.items():
        error = np.abs(np.asarray(getattr(image, name), np.float64) - golden[key])[golden[safe]]
        assert error.max() <= (1e-9 if exact else tolerance), name
    for name, gradient in zip(INPUTS, gradients, strict=True):
        truth = golden[f"grad_all_{name}"]
        error = np.linalg.norm(np.asarray(gradient, np.float64) - truth) / np.linalg.norm(truth)
        assert error <= (1e-7 if exact else 2e-3), name


@pytest.mark.parametrize(("name", "implementation"), [*CASES, SLOW])
def test_float64_agrees_to_rounding(shared_golden, name, implementation):
    with jax.enable_x64(True), np.load(shared_golden / "rasterizer" / f"{name}.npz") as golden:
        check(dict(golden), implementation, jnp.float64, exact=True)


@pytest.mark.parametrize("name", FILES)
def test_float32_stays_within_the_tolerances(shared_golden, name):
    with np.load(shared_golden / "rasterizer" / f"{name}.npz") as golden:
        check(dict(golden), "xla", jnp.float32, exact=False)
