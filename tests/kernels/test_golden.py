"""Against the float64 golden files, which two independent renderers and finite differences agree on."""

import jax
import jax.numpy as jnp
import pytest

from tests.kernels import golden
from tests.kernels.cases import KERNELS, OUTPUTS, SIZE, call, render


def check(truth, image, gradients, tolerances):
    assert int(image.overflow) == 0
    assert golden.errors(truth, image, gradients).beyond(*tolerances) == []


@pytest.mark.parametrize("name", golden.SMALL)
@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_float64_agrees_to_rounding(name, implementation):
    truth = golden.load(name)
    with jax.enable_x64(True):
        weights = golden.weights_of(truth, jnp.float64, **SIZE)
        result = render(golden.scene_of(truth, jnp.float64), implementation, weights)
        check(truth, result.image, result.gradients, golden.FLOAT64)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
@pytest.mark.parametrize("name", golden.SMALL)
def test_float32_stays_within_the_tolerances(name, implementation):
    truth = golden.load(name)
    weights = golden.weights_of(truth, jnp.float32, **SIZE)
    result = render(golden.scene_of(truth, jnp.float32), implementation, weights)
    check(truth, result.image, result.gradients, golden.FLOAT32)


@pytest.mark.parametrize(
    ("implementation", "exact"),
    [
        ("xla", False),
        pytest.param("xla", True, marks=pytest.mark.slow),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in KERNELS),
        pytest.param("reference", True, marks=pytest.mark.slow),
    ],
)
def test_head_of_2000_surfels(implementation, exact):
    truth = golden.load(golden.HEAD)
    size = golden.size_of(truth)
    with jax.enable_x64(exact):
        dtype = jnp.float64 if exact else jnp.float32
        weights = golden.weights_of(truth, dtype, **size)

        @jax.jit
        def loss(scene):
            image = call(scene, implementation, **size)
            return sum(jnp.sum(weights[name] * getattr(image, name)) for name in OUTPUTS), image

        gradients, image = jax.jit(jax.grad(loss, has_aux=True))(golden.scene_of(truth, dtype))
        check(truth, image, gradients, golden.FLOAT64 if exact else golden.FLOAT32)


def test_a_wrong_image_is_told():
    truth = golden.load("front_on")
    scene = golden.scene_of(truth, jnp.float32)
    result = render(
        scene._replace(opacities=0.9 * scene.opacities), "xla", golden.weights_of(truth, jnp.float32, **SIZE)
    )
    wrong = golden.errors(truth, result.image, result.gradients).beyond(*golden.FLOAT32)
    assert any(line.startswith("color") for line in wrong)
    assert any(line.startswith("gradient of colors") for line in wrong)
