"""Surfels against closed forms, finite differences and, between implementations, the brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tileraster import rasterize_surfels

from tests.kernels.cases import (
    IMPLEMENTATIONS,
    KERNELS,
    OUTPUTS,
    SIZE,
    SURFELS,
    all_finite,
    call,
    concatenate,
    facing_surfel,
    random_scene,
    relative_error,
    render,
    smooth_weights,
)

EDGE_ON = (0.5**0.5, 0.0, 0.5**0.5, 0.0)


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, *KERNELS])
def test_facing_surfel_is_its_gaussian(implementation):
    """Parallel to the image, (u, v) = z (x - p) / (f s): alpha, depth, normal and colour have closed forms."""
    image = render(facing_surfel(depth=2.0, scale=0.2, opacity=0.8), implementation).image
    y, x = np.mgrid[: SIZE["height"], : SIZE["width"]] + 0.5
    rho = ((x - 10.2) / (18 * 0.1)) ** 2 + ((y - 6.6) / (17 * 0.1)) ** 2
    alpha = 0.8 * np.exp(-rho / 2)
    alpha[alpha < 1 / 255] = 0
    np.testing.assert_allclose(np.asarray(image.alpha), alpha, atol=1e-5)
    np.testing.assert_allclose(np.asarray(image.depth), 2 * alpha, atol=3e-5)
    np.testing.assert_allclose(np.asarray(image.median_depth), 2.0 * (alpha > 0), atol=1e-5)
    np.testing.assert_allclose(np.asarray(image.normal[..., 2]), -alpha, atol=1e-5)
    np.testing.assert_allclose(np.asarray(image.color), alpha[..., None] * [1, 0, 0], atol=1e-5)
    assert float(jnp.abs(image.distortion).max()) < 1e-6


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, *KERNELS])
def test_two_layers_composite_in_depth_order(implementation):
    """Big discs are flat at the centre pixel: weights 0.6 and 0.4 * 0.5, whatever the order of the arguments."""
    near = facing_surfel(depth=1.0, scale=50.0, opacity=0.6)
    far = facing_surfel(depth=3.0, scale=50.0, opacity=0.5)._replace(colors=jnp.array([[0.0, 1, 0]]))
    m_near, m_far = (100 / 99.8 * (1 - 0.2 / z) for z in (1.0, 3.0))
    for scene in (concatenate(near, far), concatenate(far, near)):
        image = render(scene._replace(background=jnp.array([0.0, 0, 1])), implementation).image
        np.testing.assert_allclose(np.asarray(image.color[6, 10]), [0.6, 0.2, 0.2], atol=1e-4)
        assert float(image.depth[6, 10]) == pytest.approx(0.6 * 1 + 0.2 * 3, abs=1e-3)
        assert float(image.median_depth[6, 10]) == pytest.approx(1.0, abs=1e-4)
        assert float(image.distortion[6, 10]) == pytest.approx(0.6 * 0.2 * (m_near - m_far) ** 2, rel=1e-2)


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, *KERNELS])
def test_clamp_and_early_stop(implementation):
    """Opaque layers clamp at 0.99; the third would leave 1e-6 <= 1e-4 and is not added, nor is anything behind."""
    layers = [facing_surfel(depth=1.0 + k, scale=80.0, opacity=1.0) for k in range(3)]
    faint = facing_surfel(depth=5.0, scale=80.0, opacity=0.1)
    image = render(concatenate(*layers[:1], faint), implementation).image
    assert float(image.alpha[6, 10]) == pytest.approx(0.99 + 0.01 * 0.1, abs=1e-5)
    stopped = render(concatenate(*layers, faint), implementation).image
    assert float(stopped.alpha[6, 10]) == pytest.approx(0.99, abs=1e-5)


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors", "viewmats", "intrinsics"])
def test_xla_gradients_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        scene = random_scene(5, 12, dtype=jnp.float64)
        weights = smooth_weights(jnp.float64)
        direction = jnp.asarray(np.random.default_rng(0).normal(size=getattr(scene, name).shape))
        if name == "intrinsics":
            direction = direction * jnp.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])

        def moved(step):
            image = render(scene._replace(**{name: getattr(scene, name) + step * direction}), "xla").image
            return float(sum(jnp.sum(weights[output] * getattr(image, output)) for output in OUTPUTS))

        analytic = float(jnp.sum(getattr(render(scene, "xla").gradients, name) * direction))
        step = 1e-8
        numeric = (moved(step) - moved(-step)) / (2 * step)
    assert abs(numeric) > 1e-2
    assert analytic == pytest.approx(numeric, rel=1e-4)


def edge_cases():
    yield "edge_on", facing_surfel(quat=EDGE_ON)
    yield "almost_edge_on", facing_surfel(quat=(0.5**0.5, 0.0, 0.5**0.5 + 1e-7, 0.0), mean=(1e-4, 0.0))
    yield "crosses_the_camera_plane", facing_surfel(quat=EDGE_ON, scale=5.0, mean=(0.3, 0.1))
    yield "three_sigma_reaches_the_camera_plane", facing_surfel(quat=EDGE_ON, scale=1.2, mean=(0.3, 0.1))
    yield "zero_opacity", facing_surfel(opacity=0.0)
    yield "zero_scale", facing_surfel(scale=0.0)
    yield "zero_quaternion", facing_surfel(quat=(0.0, 0.0, 0.0, 0.0))
    yield "behind_the_camera", facing_surfel(depth=-2.0)
    yield "at_the_camera", facing_surfel(depth=0.0)
    yield "far_outside", facing_surfel(mean=(1e4, 0.0))
    yield "huge", facing_surfel(scale=1e4)
    yield "enormous", facing_surfel(scale=1e12)
    yield "coincident", concatenate(facing_surfel(), facing_surfel(opacity=0.5), facing_surfel())


EDGE_CASES = dict(edge_cases())


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_cases_are_finite_and_agree(name, implementation):
    results = [render(EDGE_CASES[name], implementation) for implementation in ("reference", implementation)]
    images, slopes = zip(*((result.image, result.gradients) for result in results), strict=True)
    assert all_finite(results)
    for output in (*OUTPUTS, "median_depth"):
        np.testing.assert_allclose(*(np.asarray(getattr(image, output)) for image in images), atol=2e-4, err_msg=output)
    for field, values in zip(slopes[0]._fields, zip(*slopes, strict=True), strict=True):
        scale = 1e-3 + float(jnp.max(jnp.abs(values[0]), initial=0.0))
        np.testing.assert_allclose(*map(np.asarray, values), atol=2e-3 * scale, err_msg=field)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
def test_squares_of_sizes_may_overflow(implementation):
    """The reference's gradients do; its image does not."""
    found = render(facing_surfel(scale=1e30), implementation)
    truth = render(facing_surfel(scale=1e30), "reference").image
    assert all_finite(found)
    for output in OUTPUTS:
        values = (np.asarray(getattr(image, output)) for image in (found.image, truth))
        np.testing.assert_allclose(*values, atol=2e-4, err_msg=output)


def test_zero_scale_draws_the_low_pass_filter():
    image = render(facing_surfel(scale=0.0, opacity=0.9), "xla").image
    assert float(image.alpha[6, 10]) == pytest.approx(0.9 * np.exp(-(0.3**2) - 0.1**2), abs=1e-4)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), opacity=st.sampled_from([0.05, 0.5, 1.0]), shift=st.floats(-1, 1))
def test_xla_agrees_with_the_reference(seed, opacity, shift):
    """In float64, where no decision is close enough to flip; gradients of a loss over all outputs included."""
    with jax.enable_x64(True):
        scene = random_scene(seed, 24, dtype=jnp.float64)
        scene = scene._replace(opacities=scene.opacities * opacity, means=scene.means + jnp.array([shift, 0.0, 0.0]))
        truth, tiles = (render(scene, implementation) for implementation in IMPLEMENTATIONS)
        for name in (*OUTPUTS, "median_depth"):
            a, b = (np.asarray(getattr(result.image, name)) for result in (truth, tiles))
            np.testing.assert_allclose(a, b, atol=1e-9, err_msg=name)
        for name, a, b in zip(scene._fields, truth.gradients, tiles.gradients, strict=True):
            assert relative_error(b, a) < 1e-7, name


def test_every_surfel_that_touches_a_pixel_gets_a_gradient():
    scene = random_scene(2, 40)
    slopes = render(scene, "xla").gradients
    ones = {name: jnp.full_like(value, float(name == "color")) for name, value in smooth_weights().items()}
    seen = np.asarray(render(scene, "reference", ones).gradients.colors)[:, 0] > 0
    assert 5 < seen.sum() < 40
    for name in ("means", "quats", "opacities", "colors"):
        moved = np.asarray(getattr(slopes, name)).reshape(40, -1).any(axis=1)
        np.testing.assert_array_equal(moved, seen, err_msg=name)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
def test_gradients_are_reproducible_bit_for_bit(implementation):
    first, second = (render(random_scene(8, 40), implementation).gradients for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_surfels_show_the_background(implementation):
    scene = facing_surfel()._replace(background=jnp.array([0.1, 0.2, 0.3]))
    scene = scene._replace(**{name: getattr(scene, name)[:0] for name in SURFELS})
    image = call(scene, implementation)
    assert image.color.shape == (SIZE["height"], SIZE["width"], 3)
    np.testing.assert_allclose(np.asarray(image.color), np.broadcast_to([0.1, 0.2, 0.3], image.color.shape), rtol=1e-6)
    assert not np.asarray(image.alpha).any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batch_axes_hold_independent_scenes(implementation):
    scenes = [random_scene(seed, 10, channels=5) for seed in range(4)]
    stacked = type(scenes[0])(*(jnp.stack(v).reshape(2, 2, *v[0].shape) for v in zip(*scenes, strict=True)))
    batch = call(stacked, implementation)
    assert batch.color.shape == (2, 2, SIZE["height"], SIZE["width"], 5)
    assert batch.overflow.shape == (2, 2)
    for k, scene in enumerate(scenes):
        # Three of the five channels: the shape that the other tests have compiled.
        one = render(scene._replace(colors=scene.colors[:, :3], background=scene.background[:3]), implementation).image
        for name in (*OUTPUTS, "median_depth"):
            whole = np.asarray(getattr(batch, name))[k // 2, k % 2]
            whole = whole[..., :3] if name == "color" else whole
            np.testing.assert_allclose(whole, np.asarray(getattr(one, name)), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, *KERNELS])
def test_screen_probe_is_the_gradient_of_the_screen_position(implementation):
    """Moving the principal point moves all surfels by as much: its gradient is the sum of theirs."""
    result = render(random_scene(4, 15), implementation)
    assert (np.abs(np.asarray(result.screen)).max(axis=1) > 0).sum() > 4
    principal_point = np.asarray(result.gradients.intrinsics[:2, 2])
    np.testing.assert_allclose(np.asarray(result.screen).sum(axis=0), principal_point, rtol=1e-3, atol=1e-3)


def test_entries_beyond_the_capacity_are_the_farthest_and_counted():
    near = facing_surfel(depth=1.0, scale=200.0, opacity=0.5)
    far = facing_surfel(depth=2.0, scale=200.0, opacity=0.5)
    scene = concatenate(far, near)  # each on all 7 x 6 tiles; the last 20 entries of the far one do not fit
    full, cut = render(scene, "xla").image, call(scene, "xla", max_intersections=64)
    assert (int(full.overflow), int(cut.overflow)) == (0, 20)
    assert float(full.alpha[43, 49]) == pytest.approx(0.75, abs=1e-2)
    assert float(cut.alpha[43, 49]) == pytest.approx(0.5, abs=1e-2)
    assert float(cut.alpha[0, 0]) == pytest.approx(0.75, abs=1e-2)


def test_a_hundred_thousand_surfels_on_one_tile():
    """Flat discs of opacity a compose to 1 - (1 - a)^k, the first k that leave more than 1e-4; gradients are finite."""
    count, opacity = 100_000, 0.01
    means = jnp.tile(jnp.array([0.0, 0, 2]), (count, 1)).at[:, 2].add(1e-5 * jnp.arange(count))
    scene = facing_surfel(scale=100.0)
    many = [jnp.tile(value, (count, 1)) for value in (scene.quats, scene.scales, scene.colors)]

    def alpha(opacities):
        image = rasterize_surfels(
            means, many[0], many[1], opacities, many[2], scene.viewmats, scene.intrinsics,
            width=8, height=8, max_intersections=1 << 17,
        )  # fmt: skip
        return jnp.mean(image.alpha), image.overflow

    (found, overflow), gradient = jax.jit(jax.value_and_grad(alpha, has_aux=True))(jnp.full(count, opacity))
    drawn = int(np.log(1e-4) / np.log(1 - opacity))
    assert int(overflow) == 0
    assert float(found) == pytest.approx(1 - (1 - opacity) ** drawn, abs=1e-4)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient[:drawn]) > 0).all()
    assert not np.asarray(gradient[drawn + 2 :]).any()


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, *KERNELS])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors", "viewmats", "intrinsics"])
def test_nan_reaches_the_output(implementation, name):
    scene = facing_surfel()
    value = getattr(scene, name)
    scene = scene._replace(**{name: value.at[(0,) * value.ndim].set(jnp.nan)})
    assert np.isnan(np.asarray(render(scene, implementation).image.color)).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_pixel_image(implementation):
    scene = facing_surfel()._replace(intrinsics=jnp.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]))
    image = call(scene, implementation, width=1, height=1)
    assert image.color.shape == (1, 1, 3)
    assert float(image.alpha[0, 0]) == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"means": jnp.ones((1, 2))}, ValueError, ["means", "(1, 2)", "[*B, N, 3]"]),
        ({"scales": jnp.ones((1, 3))}, ValueError, ["scales", "(1, 3)", "[*B, N, 2]"]),
        ({"opacities": jnp.ones((2,))}, ValueError, ["opacities", "(2,)", "N = 1", "means"]),
        ({"opacities": jnp.ones(())}, ValueError, ["opacities", "()", "[*B, N]"]),
        ({"colors": jnp.ones((1, 3), jnp.int32)}, TypeError, ["colors", "int32", "floating"]),
        ({"quats": [[1.0, 0, 0, 0]]}, TypeError, ["quats", "list", "floating"]),
        ({"quats": jnp.ones((1, 4), jnp.bfloat16)}, TypeError, ["quats", "bfloat16", "float32"]),
        ({"viewmats": jnp.ones((3, 4, 4))}, ValueError, ["viewmats", "(3, 4, 4)"]),
        ({"background": jnp.ones((4,))}, ValueError, ["background", "(4,)", "C = 3"]),
        ({"screen_probe": jnp.ones((1, 3))}, ValueError, ["screen_probe", "(1, 3)", "[*B, N, 2]"]),
        ({"height": 4.0}, ValueError, ["height", "4.0", "positive int"]),
        ({"max_intersections": 1000}, ValueError, ["max_intersections", "1000", "multiple of 64"]),
        ({"implementation": "triton"}, ValueError, ["implementation", "triton", "reference"]),
        ({"implementation": "pallas_tpu"}, ValueError, ["pallas_tpu", "needs a TPU", "'xla'"]),
    ],
)
def test_bad_calls_name_the_argument(change, error, words):
    scene = facing_surfel()
    fields = {name: value for name, value in change.items() if name in scene._fields}
    options = {name: value for name, value in change.items() if name not in scene._fields}
    with pytest.raises(error) as caught:
        call(scene._replace(**fields), **{"implementation": None, **options})
    for word in words:
        assert word in str(caught.value)
