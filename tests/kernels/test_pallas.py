"""What the Pallas kernels have of their own: many channels, batches, lists that end early, races, what they refuse."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tileraster import rasterize_ellipsoids, rasterize_mesh, rasterize_surfels, validation
from tileraster.pallas import gpu_triton
from tileraster.pallas.composite import Primitives, TileCotangents
from tileraster.pallas.entry_lists import Lists
from tileraster.pallas.kernels import gpu_kernels
from tileraster.pallas.tuning import MOSAIC_TUNING, TRITON_TUNING, GpuTuning
from tileraster.splats.projection import project_surfels
from tileraster.tiling.binning import Bins, TileGrid, bin_primitives, sum_entries
from tileraster.types import SplatInputs

from tests.kernels import test_ellipsoids
from tests.kernels.cases import (
    KERNELS,
    QUICK_TO_COMPILE,
    Scene,
    concatenate,
    facing_surfel,
    random_scene,
    relative_error,
)
from tests.kernels.test_mesh import EYE, INTRINSICS, cast_rays, random_soup
from tests.kernels.test_mesh import SIZE as MESH_SIZE

CHANNELS = 20  # with the normal more than one register of 16 rows
BATCH = {"width": 40, "height": 20}
TPU_IS_SLOW = [pytest.param("pallas_tpu_interpret", marks=pytest.mark.slow), "pallas_gpu_interpret"]


@functools.cache
def batch_of_scenes() -> Scene:
    scenes = [random_scene(seed, 30, channels=CHANNELS) for seed in range(2)]
    return Scene(*(jnp.stack(value) for value in zip(*scenes, strict=True)))


@functools.cache
def batch_image(implementation: str):
    """Image of two scenes, and the gradients of a loss on colour and depth."""

    def loss(surfels, rest):
        image = rasterize_surfels(*surfels, *rest, **BATCH, implementation=implementation)
        weight = jnp.cos(jnp.arange(image.color.size)).reshape(image.color.shape)
        return jnp.sum(image.color * weight) + jnp.sum(image.depth * weight[..., 0]), image

    scene = batch_of_scenes()
    run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK_TO_COMPILE)
    gradients, image = run(scene[:5], scene[5:7])
    return image, gradients


@pytest.mark.parametrize("implementation", TPU_IS_SLOW)
def test_many_channels_in_a_batch(implementation):
    (image, gradients), (truth, expected) = batch_image(implementation), batch_image("reference")
    for name, value in truth._asdict().items():
        found = np.asarray(getattr(image, name))
        # A handful of pixels lie within rounding of a threshold.
        close = np.isclose(found, np.asarray(value), atol=5e-4)
        assert close.mean() > 0.999, name
    assert image.color.shape == (2, 20, 40, CHANNELS)
    for gradient, value, name in zip(gradients, expected, Scene._fields, strict=False):
        assert relative_error(gradient, value) < 2e-3, name


@functools.cache
def small_lists(*, chunk: int, pixels: int, opacity: float = 0.8) -> tuple[Lists, TileCotangents]:
    """Two tiles: one of three chunks of almost flat entries, of which the first is enough, and one without entries."""
    row = np.zeros((4, chunk, 16), np.float32)
    row[..., [2, 4]] = 0.01  # a and b
    row[..., 5] = row[..., 10] = 1.0  # 1 / z and z
    row[..., 11] = np.log2(opacity)
    lists = Lists(jnp.asarray(row), jnp.ones((4, chunk, 2)), jnp.array([0, 3], jnp.int32), jnp.array([3, 0], jnp.int32))
    ones = jnp.ones((2, pixels))
    return lists, TileCotangents(jnp.ones((2, 2, pixels)), *[ones] * 4)


RACE = "RACE DETECTED"  # what TPU interpret mode prints; it raises nothing and offers no other public way to ask


def test_a_kernel_with_a_race_is_found(capfd):
    """A kernel that reads what a copy is still writing: the next test looks for the same words."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    def read_too_early(values, result, scratch, semaphore):
        copy = pltpu.make_async_copy(values, scratch, semaphore)
        copy.start()
        result[...] = scratch[...]
        copy.wait()

    run = pl.pallas_call(
        read_too_early,
        out_shape=jax.ShapeDtypeStruct((8, 128), jnp.float32),
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
        out_specs=pl.BlockSpec(memory_space=pltpu.VMEM),
        scratch_shapes=[pltpu.VMEM((8, 128), jnp.float32), pltpu.SemaphoreType.DMA],
        interpret=pltpu.InterpretParams(detect_races=True),
    )
    jax.block_until_ready(run(jnp.ones((8, 128))))
    assert RACE in capfd.readouterr().out


def test_tpu_kernels_are_free_of_races_and_end_early(capfd):
    """TPU interpret mode keeps a vector clock per core and DMA: it finds accesses that nothing orders."""
    from jax.experimental.pallas import tpu as pltpu
    from tileraster.pallas import tpu_backward, tpu_forward

    lists, cotangents = small_lists(chunk=tpu_forward.CHUNK, pixels=tpu_forward.TILE**2)
    options = {"near": 0.01, "unroll": 1, "interpret": pltpu.InterpretParams(detect_races=True)}
    forward, backward = (
        jax.jit(functools.partial(kernel, **options), compiler_options=QUICK_TO_COMPILE)
        for kernel in (tpu_forward.forward, tpu_backward.backward)
    )
    sums = jax.block_until_ready(forward(lists))
    overlapping = functools.partial(tpu_forward.forward, **options | {"unroll": 4}, overlap=True)
    same = jax.block_until_ready(jax.jit(overlapping, compiler_options=QUICK_TO_COMPILE)(lists))
    jax.tree.map(np.testing.assert_array_equal, same, sums)
    gradients = jax.block_until_ready(backward(lists, cotangents))
    assert RACE not in capfd.readouterr().out
    middle = tpu_forward.TILE * (tpu_forward.TILE + 1) // 2
    assert float(sums.alpha[0, middle]) == pytest.approx(1 - 0.2**5, abs=2e-5)  # a sixth would leave 6.4e-5
    assert not np.asarray(sums.alpha[1]).any()
    features = np.asarray(gradients.features)
    assert (np.abs(features[0]) > 0).any()
    assert not features[1:3].any()
    assert not np.asarray(gradients.moments.a)[1:3].any()


def small_primitives(grid: TileGrid, *, capacity: int = 512) -> tuple[Primitives, TileCotangents]:
    """Thirty surfels on a few tiles."""
    scene = random_scene(0, 30)
    probe = jnp.zeros((1, 30, 2))
    projected = project_surfels(SplatInputs(*(value[None] for value in scene), probe), near=0.01)
    features = jnp.concatenate([scene.colors, projected.normal[0], jnp.ones((30, 1))], axis=-1)
    bins = bin_primitives(projected.boxes, grid, capacity=capacity)
    ones = jnp.ones((grid.tiles, grid.tile**2))
    cotangents = TileCotangents(jnp.ones((grid.tiles, 7, grid.tile**2)), *[ones] * 4)
    return Primitives(projected.geometry[0], features, bins), cotangents


@pytest.mark.parametrize("kernel", ["forward", "backward"])
@pytest.mark.parametrize(
    ("backend", "tuning"),
    [
        ("triton", TRITON_TUNING),
        ("triton", GpuTuning(16, 16, 2, 8)),
        ("mosaic", MOSAIC_TUNING),
        ("mosaic", GpuTuning(16, 16, 4, 4)),
    ],
)
def test_gpu_kernels_lower_for_cuda(kernel, backend, tuning):
    """Checks operations and shapes, not the GPU's compiler, which is not here."""
    grid = TileGrid(**BATCH, tile=tuning.tile)
    primitives, cotangents = small_primitives(grid)
    arguments = (primitives,) if kernel == "forward" else (primitives, cotangents)
    run = functools.partial(getattr(gpu_kernels(f"pallas_gpu_{backend}", tuning), kernel), grid=grid, near=0.01)
    text = jax.jit(run).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert {"triton": "triton", "mosaic": "mosaic_gpu"}[backend] in text


@pytest.mark.parametrize("count", [1, 2, 5, 20, 31, 32])
def test_a_warp_adds_up_all_planes_at_once(count):
    """Every thread gets one sum; together they have each sum, in whatever order."""
    lane = jnp.arange(32)
    planes = [jnp.asarray(np.random.default_rng(k).normal(size=32), jnp.float32) for k in range(count)]
    total, column = gpu_triton.sums_of_warp(planes, lane, lambda value, bit: value[lane ^ bit])
    found = {int(k): float(value) for k, value in zip(column, total, strict=True) if k < count}
    assert found == pytest.approx({k: float(jnp.sum(plane)) for k, plane in enumerate(planes)}, abs=1e-5)


def test_a_warp_writes_more_sums_than_it_has_threads(monkeypatch):
    """Twenty channels and the normal make 37 sums."""
    written, lane = {}, jnp.arange(32)
    monkeypatch.setattr(gpu_triton, "_machine_code", lambda text, value, dtype: lane)
    monkeypatch.setattr(gpu_triton, "_from_partner", lambda value, bit: value[lane ^ bit])

    def store(place, value, mask):
        row, columns = place
        written.update({(row, int(k)): float(v) for k, v, kept in zip(columns, value, mask, strict=True) if kept})

    monkeypatch.setattr(gpu_triton.triton, "store", store)
    places = type("Places", (), {"__getitem__": lambda self, place: place})()
    out = SimpleNamespace(at=places, shape=(5, 37))
    planes = [jnp.full(32, float(k)) for k in range(37)]
    gpu_triton._write_sums_of_warp(out, 3, planes)
    assert written == {(3, k): pytest.approx(32.0 * k) for k in range(37)}
    gpu_triton._write_zeros_by_warp(out, 3)
    assert written == {(3, k): 0.0 for k in range(37)}


def test_the_gpu_sums_entries_as_xla_does():
    bins = small_primitives(TileGrid(**BATCH, tile=8))[0].bins
    values = jax.random.normal(jax.random.key(0), (bins.row.shape[0], 5))
    found = gpu_triton.sum_entries(values, bins, interpret=True)
    np.testing.assert_allclose(found, sum_entries(values, bins), atol=1e-5)
    assert int(jnp.max(bins.entries)) > 1


def test_strips_of_a_tile_make_one_picture():
    """A tile is the same whether each thread has one pixel of it or two."""
    grid = TileGrid(**BATCH, tile=8)
    primitives, cotangents = small_primitives(grid)
    found = []
    for warps in (1, 2):
        kernels = gpu_kernels("pallas_gpu_interpret", GpuTuning(8, 4, warps, warps))
        run = jax.jit(functools.partial(kernels.backward, grid=grid, near=0.01), compiler_options=QUICK_TO_COMPILE)
        forward = jax.jit(functools.partial(kernels.forward, grid=grid, near=0.01), compiler_options=QUICK_TO_COMPILE)
        found.append((forward(primitives), run(primitives, cotangents)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *found)
    assert np.asarray(found[0][0].alpha).max() > 0.5


def test_more_than_a_gpu_kernel_can_count_is_refused():
    """Nothing is computed: a thousand images of 40,000 surfels have two billion numbers of gradients."""
    grid = TileGrid(width=224, height=224, tile=8)
    rows, tiles, entries = 1000 * 40_000, 1000 * grid.tiles, 1000 * 196_608

    def numbers(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def whole(size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size,), jnp.int32)

    bins = Bins(*map(whole, (entries, entries, tiles, tiles, rows, rows, 1000)))
    cotangents = TileCotangents(numbers(tiles, 7, 64), *[numbers(tiles, 64)] * 4)
    kernels = gpu_kernels("pallas_gpu_interpret", TRITON_TUNING)
    run = functools.partial(kernels.backward, grid=grid, near=0.01)
    with pytest.raises(
        ValueError, match=r"pallas_gpu: an array of shape \(196608000, 20\) is too large .* fewer images"
    ):
        jax.eval_shape(run, Primitives(numbers(rows, 13), numbers(rows, 7), bins), cotangents)


def test_a_gpu_tile_ends_early_and_its_other_entries_get_no_gradient():
    """Ten opaque surfels that fill the tile: after the first chunk of four no light is left."""
    tuning, grid = GpuTuning(8, 4, 1, 1), TileGrid(width=8, height=8, tile=8)
    kernels = gpu_kernels("pallas_gpu_interpret", tuning)
    geometry = np.zeros((10, 13), np.float32)
    geometry[:, :2] = 4.0  # the middle of the tile
    geometry[:, [2, 5]] = 100.0  # a disc of a hundred pixels
    geometry[:, 6] = 1e4
    geometry[:, 11], geometry[:, 12] = np.arange(1, 11), 0.99
    order, zero = jnp.arange(10), jnp.zeros(1, jnp.int32)
    bins = Bins(order, order, zero, zero + 10, order, jnp.ones(10, jnp.int32), zero)
    primitives = Primitives(jnp.asarray(geometry), jnp.ones((10, 2)), bins)
    sums = kernels.forward(primitives, grid=grid, near=0.01)
    assert (np.asarray(sums.alpha) > 0.999).all()
    ones = jnp.ones((1, 64))
    gradients = kernels.backward(primitives, TileCotangents(jnp.ones((1, 2, 64)), *[ones] * 4), grid=grid, near=0.01)
    assert (np.abs(np.asarray(gradients.features[0, 0])) > 0).all()
    assert not np.asarray(gradients.features[4:]).any()
    assert not np.asarray(gradients.geometry[4:]).any()


def test_tpu_ellipsoids_are_those_of_the_brute_force():
    scene = test_ellipsoids.random_scene(0)
    run = functools.partial(test_ellipsoids.call, implementation="pallas_tpu_interpret")
    image, truth = jax.jit(run, compiler_options=QUICK_TO_COMPILE)(scene), test_ellipsoids.brute_force(scene)
    for name in (*test_ellipsoids.OUTPUTS, "median_depth"):
        found, expected = np.asarray(getattr(image, name)), getattr(truth, name)
        np.testing.assert_allclose(found[truth.safe], expected[truth.safe], atol=2e-4, err_msg=name)


ONE_TILE = {"width": 16, "height": 16}  # of every implementation


@functools.cache
def ellipsoid_gradients(implementation: str) -> test_ellipsoids.Scene:
    scene = test_ellipsoids.Scene(*(jnp.asarray(value, jnp.float32) for value in test_ellipsoids.random_scene(1)))

    def loss(scene):
        image = rasterize_ellipsoids(*scene[:7], background=scene.background, **ONE_TILE, implementation=implementation)
        weight = jnp.cos(jnp.arange(image.color.size)).reshape(image.color.shape)
        return jnp.sum(image.color * weight) + jnp.sum(image.depth * weight[..., 0])

    return jax.jit(jax.grad(loss), compiler_options=QUICK_TO_COMPILE)(scene)


@pytest.mark.parametrize("implementation", TPU_IS_SLOW)
def test_gradients_of_ellipsoids(implementation):
    found, expected = ellipsoid_gradients(implementation), ellipsoid_gradients("reference")
    for name, value in expected._asdict().items():
        assert relative_error(getattr(found, name), value) < 2e-3, name


@pytest.mark.parametrize("implementation", KERNELS)
def test_overflow_is_counted_and_loses_the_farthest(implementation):
    surfels = [facing_surfel(depth=1.0 + 0.1 * k, scale=3.0, opacity=0.02 + 0.001 * k) for k in range(72)]
    scene, nearest = concatenate(*surfels), concatenate(*surfels[:64])
    order = np.random.default_rng(0).permutation(72)
    shuffled = Scene(*(value[order] for value in scene[:5]), *scene[5:])
    run = functools.partial(rasterize_surfels, **ONE_TILE, implementation=implementation, max_intersections=64)
    image = jax.jit(run, compiler_options=QUICK_TO_COMPILE)(*shuffled[:7])
    truth = rasterize_surfels(*nearest[:7], **ONE_TILE, implementation="reference")
    assert int(image.overflow) == 8
    np.testing.assert_allclose(image.color, truth.color, atol=1e-5)
    np.testing.assert_allclose(image.depth, truth.depth, atol=1e-5)


def test_tpu_triangles_agree_with_ray_casting():
    """The soup contains triangles that reach behind the camera, lie outside the image, and intersect each other."""
    vertices, faces = random_soup(300, 300)
    run = functools.partial(rasterize_mesh, **MESH_SIZE, implementation="pallas_tpu_interpret")
    image = jax.jit(run, compiler_options=QUICK_TO_COMPILE)(vertices, faces, EYE, INTRINSICS)
    depth, face, safe = cast_rays(vertices, faces)
    np.testing.assert_array_equal(np.asarray(image.face_index).reshape(-1)[safe], face[safe])
    hit = safe & (face >= 0)
    np.testing.assert_allclose(np.asarray(image.depth).reshape(-1)[hit], depth[hit], rtol=1e-4)
    assert int(image.overflow) == 0


@pytest.mark.parametrize(("platform", "default"), [("cpu", "xla"), ("gpu", "pallas_gpu"), ("tpu", "pallas_tpu")])
def test_default_and_refusals_go_by_the_device(monkeypatch, platform, default):
    monkeypatch.setattr(validation, "call_platform", lambda: platform)
    assert validation.choose_implementation(None, jnp.float32) == default
    assert validation.choose_implementation(None, jnp.float64) == "xla"
    for name in ("pallas_tpu", "pallas_gpu", *validation.GPU_BACKENDS):
        if f"pallas_{platform}" in name:
            assert validation.choose_implementation(name, jnp.float32) == name
        else:
            with pytest.raises(ValueError, match=rf"needs a .PU, this is a {platform}"):
                validation.choose_implementation(name, jnp.float32)
        with pytest.raises(TypeError, match="takes float32, got"):
            validation.choose_implementation(name, jnp.float64)


def test_a_gpu_by_amd_gets_plain_xla(monkeypatch):
    """The kernels have machine code of NVIDIA's in them."""
    device = SimpleNamespace(client=SimpleNamespace(platform_version="rocm 70000"))
    monkeypatch.setattr(validation, "call_platform", lambda: "gpu")
    monkeypatch.setattr(validation, "current_device", lambda: device)
    assert validation.choose_implementation(None, jnp.float32) == "xla"
    with pytest.raises(ValueError, match="needs a GPU by NVIDIA, this is one by AMD"):
        validation.choose_implementation("pallas_gpu", jnp.float32)
