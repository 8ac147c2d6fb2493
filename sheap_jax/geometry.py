"""Rotations and cameras: small pure functions, safe to differentiate everywhere."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.types import Camera

# Vertical field of view of the official release's camera, one metre in front of the head: focal = 3.9989 x width.
OFFICIAL_FOCAL = 3.9989
OFFICIAL_DISTANCE = 1.0


def rotation_vector_to_matrix(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rodrigues' formula: R = I + sin(t)/t [v] + (1 - cos t)/t^2 [v]^2; its Taylor series near t = 0."""
    square = jnp.sum(vector * vector, axis=-1)[..., None, None]
    small = square < 1e-6
    safe = jnp.where(small, 1.0, square)
    angle = jnp.sqrt(safe)
    first = jnp.where(small, 1.0 - square / 6.0, jnp.sin(angle) / angle)
    second = jnp.where(small, 0.5 - square / 24.0, (1.0 - jnp.cos(angle)) / safe)
    cross = cross_matrix(vector)
    return jnp.eye(3, dtype=vector.dtype) + first * cross + second * (cross @ cross)


def cross_matrix(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """The matrix [v] with [v] w = v x w."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return jnp.stack(rows, axis=-1).reshape(*vector.shape[:-1], 3, 3)


def normalize(vector: Float[Array, "*b c"], *, epsilon: float = 1e-12) -> Float[Array, "*b c"]:
    """Unit vectors; a vector shorter than sqrt(epsilon) stays short instead of giving NaN, also in gradients."""
    return vector / jnp.sqrt(jnp.maximum(jnp.sum(vector * vector, axis=-1, keepdims=True), epsilon))


def quaternion_to_matrix(quaternion: Float[Array, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrices of wxyz quaternions, which need not have unit length."""
    w, x, y, z = jnp.moveaxis(normalize(quaternion), -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return jnp.stack(rows, axis=-1).reshape(*quaternion.shape[:-1], 3, 3)


def matrix_to_quaternion(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 4"]:
    """Unit wxyz quaternions of rotation matrices, by the largest of the four candidates (Shepperd's method).

    Only one candidate's square root is ever taken, so that gradients stay finite for every rotation.
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    d, e, f = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    # Row k holds 4 q_k (w, x, y, z): the quaternion scaled by four times its own k-th entry.
    rows = jnp.stack(
        [
            jnp.stack([1 + xx + yy + zz, a - d, b - e, c - f], axis=-1),
            jnp.stack([a - d, 1 + xx - yy - zz, c + f, b + e], axis=-1),
            jnp.stack([b - e, c + f, 1 - xx + yy - zz, a + d], axis=-1),
            jnp.stack([c - f, b + e, a + d, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = jnp.argmax(jnp.stack([rows[..., k, k] for k in range(4)], axis=-1), axis=-1)
    row = jnp.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
    return normalize(row)


def quaternion_multiply(first: Float[Array, "*b 4"], second: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Hamilton product: rotate by `second`, then by `first`."""
    w1, x1, y1, z1 = jnp.moveaxis(first, -1, 0)
    w2, x2, y2, z2 = jnp.moveaxis(second, -1, 0)
    return jnp.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )


def transform_points(matrix: Float[Array, "*#b 4 4"], points: Float[Array, "*#b n 3"]) -> Float[Array, "*#b n 3"]:
    """Apply rigid or affine 4x4 transforms to points."""
    return points @ jnp.swapaxes(matrix[..., :3, :3], -1, -2) + matrix[..., None, :3, 3]


def project(points: Float[Array, "*#b n 3"], camera: Camera) -> Float[Array, "*#b n 2"]:
    """World points to pixels. Points behind the camera give meaningless pixels: check their depth if it matters."""
    local = transform_points(camera.viewmat, points)
    focal = jnp.stack([camera.intrinsics[..., 0, 0], camera.intrinsics[..., 1, 1]], axis=-1)
    center = camera.intrinsics[..., None, :2, 2]
    return local[..., :2] / local[..., 2:] * focal[..., None, :] + center


def official_camera(size: int) -> Camera:
    """The fixed camera of the official release for a square crop of `size` pixels.

    It stands 1 m in front of the head and sees 0.25 m at the origin; all head motion is in `HeadParams`.
    """
    viewmat = jnp.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, OFFICIAL_DISTANCE], [0, 0, 0, 1]], dtype=jnp.float32)
    focal = OFFICIAL_FOCAL * size
    intrinsics = jnp.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=jnp.float32)
    return Camera(viewmat=viewmat, intrinsics=intrinsics)


def opencv_to_opengl(viewmat: Float[Array, "*b 4 4"]) -> Float[Array, "*b 4 4"]:
    """World-to-camera matrix of the same camera with OpenGL axes (x right, y up, looking along -z).

    The function is its own inverse.
    """
    return viewmat * jnp.array([1.0, -1.0, -1.0, 1.0], dtype=viewmat.dtype)[:, None]
