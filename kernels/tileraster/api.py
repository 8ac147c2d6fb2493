"""The public functions: each says what its image is, checks the call and runs it on one flat batch axis."""

from typing import Any

import jax
from jaxtyping import Array, Float, Int

from tileraster import validation
from tileraster.mesh.render import render_mesh
from tileraster.splatting import flatten, splat
from tileraster.types import EllipsoidImage, MeshImage, SurfelImage


def rasterize_surfels(
    means: Float[Array, "*b n 3"],
    quats: Float[Array, "*b n 4"],
    scales: Float[Array, "*b n 2"],
    opacities: Float[Array, "*b n"],
    colors: Float[Array, "*b n c"],
    viewmats: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    *,
    width: int,
    height: int,
    background: Float[Array, "*b c"] | None = None,
    near: float = 0.01,
    screen_probe: Float[Array, "*b n 2"] | None = None,
    implementation: str | None = None,
    max_intersections: int | None = None,
) -> SurfelImage:
    """Composite surfels (2D Gaussians on discs, Huang et al. 2024, arXiv:2403.17888) front to back.

    For a pixel centre x and a surfel with p_c its centre, r_u, r_v its tangents in camera space and
    M = K [s_u r_u | s_v r_v | p_c], let (u, v) be the point of the disc on the pixel's ray, z its depth and c the
    centre of the box around the projected 1-sigma ellipse. Then

        rho   = min(u^2 + v^2, 2 |x - c|^2)            z = z_c where the second, the low-pass filter, is smaller
        alpha = min(0.99, opacity exp(-rho / 2))       skipped below 1/255 and where z <= near
        w_i   = alpha_i prod_{j < i} (1 - alpha_j)     by rising z_c; ends before the product falls to 1e-4

    and color = sum w colour + (1 - sum w) background, alpha = sum w, depth = sum w z, normal = sum w n,
    distortion = sum_{i < j} w_i w_j (m_i - m_j)^2 with m = f / (f - n) (1 - n / z), n = 0.2, f = 100. Surfels behind
    `near`, and discs whose 1-sigma ellipse reaches the camera plane, are invisible.

    Differentiable with respect to every array. A NaN in an input makes the whole of its image NaN.

    Args:
        means: centres, world space.
        quats: wxyz, any length; the columns of the rotation are tangent u, tangent v and normal.
        scales: standard deviations along the two tangents, world units.
        opacities: in [0, 1].
        colors: any number of channels C >= 1.
        viewmats: world to camera (x right, y down, z forward).
        intrinsics: pixels; the entries other than fx, fy, cx, cy are ignored.
        width, height: image size in pixels; the centre of the top-left pixel is (0.5, 0.5).
        background: colour behind everything; None is black.
        near: smallest z of a surfel and of an intersection.
        screen_probe: pass zeros to get the statistic that densification needs: the probe moves each surfel on the
            screen by (x, y) pixels, so its gradient is the gradient of the loss with respect to the surfel's screen
            position, per image. It changes neither the image nor the other gradients. (The original's statistic
            ignores the low-pass filter; this one does not.)
        implementation: "reference" (every surfel at every pixel, autodiff), "xla" (tiles, any device), "pallas_tpu",
            "pallas_gpu" (tiles, float32 only; "pallas_gpu_mosaic" and "pallas_gpu_triton" name the compiler); None: the
            default of the device, see `validation.DEFAULTS`.
        max_intersections: (tile, surfel) entries that fit per image, a multiple of 64. Farther ones are left out and
            counted in `overflow`. None: picked from N and the image size, see `binning.default_capacity`.

    Raises:
        TypeError, ValueError: an argument has the wrong dtype or shape, or the implementation does not run on this
            device; the message names it.
    """
    arrays = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "viewmats": viewmats, "intrinsics": intrinsics, "background": background, "screen_probe": screen_probe,
    }  # fmt: skip
    options: dict[str, Any] = {"implementation": implementation, "max_intersections": max_intersections}
    return splat("surfels", arrays, width=width, height=height, near=near, **options)


def rasterize_ellipsoids(
    means: Float[Array, "*b n 3"],
    quats: Float[Array, "*b n 4"],
    scales: Float[Array, "*b n 3"],
    opacities: Float[Array, "*b n"],
    colors: Float[Array, "*b n c"],
    viewmats: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    *,
    width: int,
    height: int,
    background: Float[Array, "*b c"] | None = None,
    near: float = 0.01,
    screen_probe: Float[Array, "*b n 2"] | None = None,
    implementation: str | None = None,
    max_intersections: int | None = None,
) -> EllipsoidImage:
    """Composite ellipsoids (3D Gaussians, Kerbl et al. 2023, arXiv:2308.04079) front to back.

    An ellipsoid with scaled axes A in camera space becomes the screen Gaussian of covariance S = J A A^T J^T + 0.3 I
    (square pixels), J the Jacobian of the projection at its centre, or at the nearest point 0.3 half image sizes beyond
    the border. With d the offset of the pixel from the projected centre

        alpha = min(0.99, opacity exp(-d^T S^-1 d / 2))        skipped below 1/255

    and weights, color, alpha, depth (of the centres) and median_depth as in `rasterize_surfels`; there is no
    compensation of the opacity for the 0.3. Differentiable with respect to every array.

    Args:
        quats: wxyz, any length; the columns of the rotation are the three axes.
        scales: standard deviations along the three axes, world units.

        All others as in `rasterize_surfels`.

    Raises:
        TypeError, ValueError: an argument has the wrong dtype or shape, or the implementation does not run on this
            device; the message names it.
    """
    arrays = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "viewmats": viewmats, "intrinsics": intrinsics, "background": background, "screen_probe": screen_probe,
    }  # fmt: skip
    options: dict[str, Any] = {"implementation": implementation, "max_intersections": max_intersections}
    return splat("ellipsoids", arrays, width=width, height=height, near=near, **options)


def rasterize_mesh(
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    viewmats: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    *,
    width: int,
    height: int,
    near: float = 0.01,
    cull_backfaces: bool = False,
    implementation: str | None = None,
    max_intersections: int | None = None,
) -> MeshImage:
    """Nearest triangle at every pixel centre, as a z-buffer would find it.

    `depth`, `normal` and `barycentric` are differentiable with respect to vertices and cameras: the winning face is
    held fixed, its intersection with the pixel's ray is differentiated. Silhouettes carry no gradient. Triangles may
    reach behind the camera; hits with z <= near do not count. Equal depths go to the lower face index.

    Args:
        vertices: world space.
        faces: vertex indices, shared by the batch; counter-clockwise seen from the front.
        viewmats: world to camera (x right, y down, z forward).
        intrinsics: pixels, no skew.
        width, height: image size in pixels; the centre of the top-left pixel is (0.5, 0.5).
        near: smallest z of a hit.
        cull_backfaces: skip faces whose back is towards the camera.
        implementation: "reference" (every face at every pixel), "xla" (bounding boxes and a z-buffer), "pallas_tpu"
            (tiles, float32 only; the gradient is plain XLA); None: the default of the device.
        max_intersections: most (pixel, face) candidates per image, a multiple of 64; whole faces beyond it are dropped
            and their candidates counted in `overflow`. None: no limit, nothing is allocated for it. With "pallas_tpu":
            (tile, face) entries that fit, as in `rasterize_surfels`.

    Raises:
        TypeError, ValueError: an argument has the wrong dtype or shape, or the implementation does not run on this
            device; the message names it.
        NotImplementedError: the implementation has no triangles.
    """
    batch = validation.check_arrays(
        {"vertices": vertices, "viewmats": viewmats, "intrinsics": intrinsics},
        {"vertices": ("V", 3), "viewmats": (4, 4), "intrinsics": (3, 3)},
    )
    validation.check_faces(faces)
    validation.check_size(width=width, height=height)
    validation.check_capacity(max_intersections)
    chosen = validation.choose_implementation(implementation, vertices.dtype, on_gpu=False)
    image = render_mesh(
        flatten(vertices, batch),
        faces,
        flatten(viewmats, batch),
        flatten(intrinsics, batch),
        width=width,
        height=height,
        near=float(near),
        cull_backfaces=cull_backfaces,
        implementation=chosen,
        max_intersections=max_intersections,
    )
    return jax.tree.map(lambda value: value.reshape(batch + value.shape[1:]), image)
