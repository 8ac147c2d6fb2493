"""Surfels as a Gaussian-splat .ply: the format of the first 3D Gaussian Splatting code, which viewers and editors read.

One vertex per surfel, float32, in this order: position x y z, normal nx ny nz, colour f_dc_0..2, opacity, scale_0..2,
rot_0..3. Stored before their activations: colour = 0.5 + SH_C0 f_dc, opacity = sigmoid(opacity), standard deviations =
exp(scale), rotation = rot / |rot| (wxyz). No higher harmonics: the light is in the colours.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from sheap_jax.files.whole_file import whole_file
from sheap_jax.geometry import quaternion_to_matrix
from sheap_jax.types import Surfels

SH_C0 = 0.28209479177387814  # the constant harmonic, 1 / (2 sqrt(pi))
THICKNESS = 1e-5  # metres, the third standard deviation: thin beside any surfel, within half precision's reach
OPACITY_MARGIN = 1e-6  # opacities of 0 and 1 have no finite logit

FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_splats(path: str | Path, surfels: Surfels, colors: Float[Array, "n 3"]) -> None:
    """Write lit surfels (no batch axis) in world coordinates: metres, y up, z out of the face."""
    with whole_file(path) as temporary:
        temporary.write_bytes(splat_bytes(surfels, colors))


def splat_bytes(surfels: Surfels, colors: Float[Array, "n 3"]) -> bytes:
    """The file's content, see above."""
    count = surfels.means.shape[0]
    scales = np.concatenate([np.asarray(surfels.scales)[:, :2], np.full((count, 1), THICKNESS)], axis=1)
    opacities = np.clip(np.asarray(surfels.opacities, np.float64), OPACITY_MARGIN, 1 - OPACITY_MARGIN)[:, None]
    logits = np.log(opacities) - np.log1p(-opacities)
    normals = quaternion_to_matrix(surfels.quats)[..., 2]
    columns = [surfels.means, normals, (np.asarray(colors) - 0.5) / SH_C0, logits, np.log(scales), surfels.quats]
    properties = "".join(f"property float {name}\n" for name in FIELDS)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n"
    return header.encode() + np.concatenate(columns, axis=1).astype("<f4").tobytes()
