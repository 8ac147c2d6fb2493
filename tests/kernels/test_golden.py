"""Against the float64 golden files, which two independent renderers and finite differences agree on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.cases import KERNELS, OUTPUTS, SIZE, Scene, call, relative_error, render

GOLDEN_NAMES = {
    "color": "rgb",
    "alpha": "alpha",
    "depth": "depth_acc",
    "median_depth": "depth_median",
    "normal": "normal_cam",
    "distortion": "distortion",
}
TOLERANCES_FLOAT32 = {
    "color": 2e-4, "alpha": 2e-4, "depth": 5e-4, "median_depth": 1e-4, "normal": 5e-4, "distortion": 1e-5,
}  # fmt: skip
INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmat", "K", "background")
SMALL = ("front_on", "edge_on", "opaque_stack", "random64")


def load(folder, name):
    path = folder / "rasterizer" / f"{name}.npz"
    with np.load(path) as golden:
        return dict(golden)


def scene_of(golden, dtype):
    return Scene(*(jnp.asarray(golden[name], dtype) for name in INPUTS))


def weights_of(golden, dtype, *, height, width):
    """The weights of loss_all, zero on the part of the canvas that the golden image does not have."""
    weights = {name: golden[f"w_{GOLDEN_NAMES[name]}"] for name in OUTPUTS}
    margins = (0, height - int(golden["height"])), (0, width - int(golden["width"]))
    return {
        name: jnp.asarray(np.pad(value, (*margins, *((0, 0),) * (value.ndim - 2))), dtype)
        for name, value in weights.items()
    }


def check(golden, image, gradients, *, exact):
    height, width = int(golden["height"]), int(golden["width"])
    assert int(image.overflow) == 0
    for name, key in GOLDEN_NAMES.items():
        safe = golden["safe_normal" if name == "normal" else "safe"]
        error = np.abs(np.asarray(getattr(image, name), np.float64)[:height, :width] - golden[key])[safe]
        assert error.max() <= (1e-9 if exact else TOLERANCES_FLOAT32[name]), name
    for name, gradient in zip(INPUTS, gradients, strict=True):
        assert relative_error(gradient, golden[f"grad_all_{name}"]) <= (1e-7 if exact else 2e-3), name


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_float64_agrees_to_rounding(shared_golden, name, implementation):
    golden = load(shared_golden, name)
    with jax.enable_x64(True):
        weights = weights_of(golden, jnp.float64, **SIZE)
        result = render(scene_of(golden, jnp.float64), implementation, weights)
        check(golden, result.image, result.gradients, exact=True)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
@pytest.mark.parametrize("name", SMALL)
def test_float32_stays_within_the_tolerances(shared_golden, name, implementation):
    golden = load(shared_golden, name)
    result = render(scene_of(golden, jnp.float32), implementation, weights_of(golden, jnp.float32, **SIZE))
    check(golden, result.image, result.gradients, exact=False)


@pytest.mark.parametrize(
    ("implementation", "exact"),
    [
        ("xla", False),
        pytest.param("xla", True, marks=pytest.mark.slow),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in KERNELS),
        pytest.param("reference", True, marks=pytest.mark.slow),
    ],
)
def test_head_of_2000_surfels(shared_golden, implementation, exact):
    golden = load(shared_golden, "head_shell_2000")
    size = {"width": int(golden["width"]), "height": int(golden["height"])}
    with jax.enable_x64(exact):
        dtype = jnp.float64 if exact else jnp.float32
        weights = weights_of(golden, dtype, **size)

        @jax.jit
        def loss(scene):
            image = call(scene, implementation, **size)
            return sum(jnp.sum(weights[name] * getattr(image, name)) for name in OUTPUTS), image

        gradients, image = jax.jit(jax.grad(loss, has_aux=True))(scene_of(golden, dtype))
        check(golden, image, gradients, exact=exact)
