"""Triangles against closed forms, float64 ray casting, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tileraster import rasterize_mesh

IMPLEMENTATIONS = ("reference", "xla")
SIZE = {"width": 20, "height": 14}
EYE = jnp.eye(4)
INTRINSICS = jnp.array([[16.0, 0, 9.3], [0, 15.0, 7.1], [0, 0, 1]])
QUAD_FACES = jnp.array([[0, 1, 2], [0, 2, 3]], jnp.int32)


def tilted_quad(center_z=2.0, slope=0.3):
    """A square in the plane z = center_z + slope x, its front (counter-clockwise) to the camera."""
    x = jnp.array([-0.5, -0.5, 0.5, 0.5])
    y = jnp.array([-0.4, 0.4, 0.4, -0.4])
    return jnp.stack([x, y, center_z + slope * x], axis=-1)


def random_soup(seed, count):
    rng = np.random.default_rng(seed)
    center = rng.uniform([-1.2, -1, 0.3], [1.2, 1, 4], size=(count, 1, 3))
    vertices = center + rng.normal(size=(count, 3, 3)) * 0.4
    return jnp.asarray(vertices.reshape(-1, 3), jnp.float32), jnp.arange(3 * count, dtype=jnp.int32).reshape(-1, 3)


def cast_rays(vertices, faces, near=0.01):
    """Moeller-Trumbore in float64 numpy: every face at every pixel, an independent formulation."""
    vertices, k = np.asarray(vertices, np.float64), np.asarray(INTRINSICS, np.float64)
    y, x = np.mgrid[: SIZE["height"], : SIZE["width"]] + 0.5
    ray = np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones_like(x)], -1).reshape(-1, 1, 3)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    p = np.cross(ray, c - a)
    det = np.sum((b - a) * p, -1)
    u = np.sum(-a * p, -1) / det
    q = np.cross(-a, b - a)
    v = np.sum(ray * q, -1) / det
    z = np.sum((c - a) * q, -1) / det
    edge_distance = np.min(np.abs(np.stack([u, v, 1 - u - v])), axis=0)
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (z > near)
    z = np.where(hit, z, np.inf)
    order = np.sort(z, axis=1)
    close = order[:, 1] - order[:, 0] < 1e-4 if z.shape[1] > 1 else np.zeros(len(z), bool)
    safe = ~close & (np.min(edge_distance, axis=1) > 1e-4)
    return z.min(axis=1), np.where(hit.any(axis=1), z.argmin(axis=1), -1), safe


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_plane_has_its_analytic_depth_and_normal(implementation):
    image = rasterize_mesh(tilted_quad(), QUAD_FACES, EYE, INTRINSICS, **SIZE, implementation=implementation)
    x = (np.arange(SIZE["width"]) + 0.5 - 9.3) / 16.0
    expected = 2.0 / (1.0 - 0.3 * x)  # z = 2 + 0.3 x z
    inside = np.asarray(image.mask)
    assert 20 < inside.sum() < 120
    np.testing.assert_allclose(
        np.asarray(image.depth)[inside], np.broadcast_to(expected, inside.shape)[inside], rtol=1e-5
    )
    normal = np.array([0.3, 0, -1]) / np.hypot(0.3, 1)
    np.testing.assert_allclose(np.asarray(image.normal)[inside], np.broadcast_to(normal, (inside.sum(), 3)), atol=1e-6)
    np.testing.assert_allclose(np.asarray(image.barycentric)[inside].sum(-1), 1.0, atol=1e-5)
    for empty in (image.depth, image.normal, image.barycentric):
        assert not np.asarray(empty)[~inside].any()
    assert (np.asarray(image.face_index)[~inside] == -1).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_barycentrics_rebuild_the_hit_point(implementation):
    vertices, faces = random_soup(0, 12)
    image = rasterize_mesh(vertices, faces, EYE, INTRINSICS, **SIZE, implementation=implementation)
    mask = np.asarray(image.mask)
    corners = np.asarray(vertices)[np.asarray(faces)[np.asarray(image.face_index)[mask]]]
    point = np.einsum("pi,pic->pc", np.asarray(image.barycentric)[mask], corners)
    row, column = np.nonzero(mask)
    np.testing.assert_allclose(point[:, 2], np.asarray(image.depth)[mask], rtol=1e-5)
    np.testing.assert_allclose(16.0 * point[:, 0] / point[:, 2] + 9.3, column + 0.5, atol=1e-3)
    np.testing.assert_allclose(15.0 * point[:, 1] / point[:, 2] + 7.1, row + 0.5, atol=1e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("count", [1, 40, 300])
def test_nearest_face_agrees_with_ray_casting(implementation, count):
    """The soup contains triangles that reach behind the camera, lie outside the image, and intersect each other."""
    vertices, faces = random_soup(count, count)
    image = rasterize_mesh(vertices, faces, EYE, INTRINSICS, **SIZE, implementation=implementation)
    depth, face, safe = cast_rays(vertices, faces)
    assert safe.mean() > 0.5
    np.testing.assert_array_equal(np.asarray(image.face_index).reshape(-1)[safe], face[safe])
    hit = safe & (face >= 0)
    np.testing.assert_allclose(np.asarray(image.depth).reshape(-1)[hit], depth[hit], rtol=1e-4)
    assert int(image.overflow) == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_backfaces_are_culled_on_request(implementation):
    turned = QUAD_FACES[:, ::-1]
    for faces, expected in ((QUAD_FACES, True), (turned, False)):
        image = rasterize_mesh(
            tilted_quad(), faces, EYE, INTRINSICS, **SIZE, cull_backfaces=True, implementation=implementation
        )
        assert bool(image.mask.any()) == expected


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_near_plane_hides_what_is_before_it(implementation):
    image = rasterize_mesh(tilted_quad(), QUAD_FACES, EYE, INTRINSICS, **SIZE, near=2.0, implementation=implementation)
    assert int(image.mask.sum()) > 0
    assert float(image.depth[image.mask].min()) > 2.0
    gone = rasterize_mesh(tilted_quad(), QUAD_FACES, EYE, INTRINSICS, **SIZE, near=3.0, implementation=implementation)
    assert not bool(gone.mask.any())


@pytest.mark.parametrize("name", ["vertices", "viewmats", pytest.param("intrinsics", marks=pytest.mark.slow)])
def test_gradients_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        inputs = {
            "vertices": jnp.asarray(np.asarray(tilted_quad()), jnp.float64),
            "viewmats": jnp.eye(4, dtype=jnp.float64).at[:3, 3].set(jnp.array([0.03, -0.02, 0.1])),
            "intrinsics": jnp.asarray(np.asarray(INTRINSICS), jnp.float64),
        }
        rng = np.random.default_rng(1)
        shape = (SIZE["height"], SIZE["width"])
        weight = [jnp.asarray(rng.normal(size=(*shape, k))) for k in (1, 3, 3)]
        direction = jnp.asarray(rng.normal(size=inputs[name].shape))
        if name == "intrinsics":
            direction = direction * jnp.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])

        @jax.jit
        def loss(value):
            given = {**inputs, name: value}
            image = rasterize_mesh(given["vertices"], QUAD_FACES, given["viewmats"], given["intrinsics"], **SIZE)
            values = (image.depth[..., None], image.normal, image.barycentric)
            return sum(jnp.sum(w * v) for w, v in zip(weight, values, strict=True))

        analytic = float(jnp.sum(jax.grad(loss)(inputs[name]) * direction))
        step = 1e-6
        numeric = float(loss(inputs[name] + step * direction) - loss(inputs[name] - step * direction)) / (2 * step)
    assert abs(numeric) > 1e-3
    assert analytic == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batches_are_independent_images(implementation):
    vertices, faces = random_soup(3, 30)
    scenes = jnp.stack([vertices, vertices + 0.1, vertices * jnp.array([1.0, -1.0, 1.0]), vertices * 0.9])
    scenes = scenes.reshape(2, 2, -1, 3)
    cameras = jnp.broadcast_to(EYE, (2, 2, 4, 4)), jnp.broadcast_to(INTRINSICS, (2, 2, 3, 3))
    batch = rasterize_mesh(scenes, faces, *cameras, **SIZE, implementation=implementation)
    assert batch.depth.shape == (2, 2, SIZE["height"], SIZE["width"])
    for index in np.ndindex(2, 2):
        one = rasterize_mesh(scenes[index], faces, EYE, INTRINSICS, **SIZE, implementation=implementation)
        np.testing.assert_array_equal(np.asarray(batch.face_index)[index], np.asarray(one.face_index))
        np.testing.assert_allclose(np.asarray(batch.depth)[index], np.asarray(one.depth), rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("vertices", "faces"),
    [
        (jnp.zeros((3, 3)), jnp.array([[0, 1, 2]])),  # a point at the camera
        (jnp.ones((3, 3)), jnp.array([[0, 1, 2]])),  # zero area
        (-jnp.eye(3) - 1, jnp.array([[0, 1, 2]])),  # behind the camera
        (jnp.ones((3, 3)), jnp.zeros((0, 3), jnp.int32)),  # no face
    ],
)
def test_faces_that_cannot_be_seen_leave_an_empty_image_and_finite_gradients(implementation, vertices, faces):
    def total(vertices):
        image = rasterize_mesh(vertices, faces, EYE, INTRINSICS, **SIZE, implementation=implementation)
        return image.depth.sum() + image.normal.sum() + image.barycentric.sum()

    value, gradient = jax.value_and_grad(total)(vertices)
    assert float(value) == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_reaches_the_output_of_its_own_image_only(implementation):
    vertices = jnp.stack([tilted_quad(), tilted_quad().at[2, 1].set(jnp.nan)])
    cameras = jnp.stack([EYE, EYE]), jnp.stack([INTRINSICS, INTRINSICS])
    image = rasterize_mesh(vertices, QUAD_FACES, *cameras, **SIZE, implementation=implementation)
    assert np.isfinite(np.asarray(image.depth[0])).all()
    assert np.isnan(np.asarray(image.depth[1])).all()


def test_faces_beyond_the_capacity_are_counted():
    complete = rasterize_mesh(tilted_quad(), QUAD_FACES, EYE, INTRINSICS, **SIZE)
    partial = rasterize_mesh(tilted_quad(), QUAD_FACES, EYE, INTRINSICS, **SIZE, max_intersections=64)
    assert int(complete.overflow) == 0
    assert int(partial.overflow) > 0
    assert int(partial.mask.sum()) < int(complete.mask.sum())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"vertices": jnp.ones((4, 2))}, ValueError, ["vertices", "(4, 2)", "[*B, V, 3]"]),
        ({"vertices": np.ones((4, 3), int)}, TypeError, ["vertices", "int64", "floating"]),
        ({"viewmats": jnp.ones((2, 4, 4))}, ValueError, ["viewmats", "(2, 4, 4)", "()"]),
        ({"faces": jnp.ones((4, 3))}, TypeError, ["faces", "float32", "integer"]),
        ({"faces": jnp.ones((4,), jnp.int32)}, ValueError, ["faces", "(4,)", "[F, 3]"]),
        ({"width": 0}, ValueError, ["width", "0", "positive int"]),
        ({"max_intersections": 100}, ValueError, ["max_intersections", "100", "multiple of 64"]),
        ({"implementation": "cuda"}, ValueError, ["implementation", "cuda", "xla"]),
        ({"implementation": "pallas_gpu"}, NotImplementedError, ["pallas_gpu", "no triangles"]),
    ],
)
def test_bad_calls_name_the_argument(change, error, words):
    call = {"vertices": tilted_quad(), "faces": QUAD_FACES, "viewmats": EYE, "intrinsics": INTRINSICS, **SIZE, **change}
    with pytest.raises(error) as caught:
        rasterize_mesh(**call)
    for word in words:
        assert word in str(caught.value)
