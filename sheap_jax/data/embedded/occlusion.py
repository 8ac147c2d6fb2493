"""How much light reaches each vertex from each direction, past the rest of the head: cheap soft shadows.

Precomputed radiance transfer (Sloan, Kautz and Snyder, SIGGRAPH 2002) of order 2, on the template. Visibility comes
from splatting the surface into a coarse depth buffer per direction, which is accurate to some millimetres.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.method.lighting import LAMBERT_FACTORS, sh_basis

DIRECTIONS = 96
CELL = 0.005  # metres per cell of the depth buffer
BIAS = 0.006  # metres by which a vertex may lie under the splatted surface and still be seen


def light_transfer(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 9"]:
    """Harmonic coefficients of (visible x cosine) at every vertex.

    Their dot product with the light's harmonic coefficients is the irradiance with shadows, in the units of
    `sheap_jax.method.lighting.shade`.
    """
    directions = _sphere(DIRECTIONS)
    basis = np.asarray(sh_basis(jnp.asarray(directions)))
    normals = template_normals(vertices, faces)
    samples = _surface_samples(vertices, faces)
    seen = np.stack([_visible(vertices + 0.002 * normals, samples, d) for d in directions], axis=1)
    cosine = np.clip(normals @ directions.T, 0, None)
    return ((seen * cosine) @ basis * (4 * np.pi / DIRECTIONS)).astype(np.float32)


def unshadowed_transfer(normals: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 9"]:
    """What `light_transfer` gives where nothing is hidden."""
    return np.asarray(sh_basis(jnp.asarray(normals))) * np.array(LAMBERT_FACTORS, np.float32)


def template_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Area-weighted unit normals.

    `layers.vertex_normals` computes the same with other roundings. This one stays: with the last bits of its result the
    pictures of embedded-v1 would change.
    """
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normal)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _sphere(count: int) -> Float[np.ndarray, "d 3"]:
    """Evenly spread directions (Fibonacci lattice)."""
    i = np.arange(count) + 0.5
    y = 1 - 2 * i / count
    angle = np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1).astype(np.float32)


def _surface_samples(vertices: np.ndarray, faces: np.ndarray) -> Float[np.ndarray, "s 3"]:
    """Points that leave no cell of the surface empty."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    weights = [(1, 1, 1), (4, 1, 1), (1, 4, 1), (1, 1, 4), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
    points = [(i * a + j * b + k * c) / (i + j + k) for i, j, k in weights]
    return np.concatenate([vertices, *points])


def _visible(points: np.ndarray, samples: np.ndarray, direction: np.ndarray) -> np.ndarray:
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    up = np.cross(direction, right)
    axes = np.stack([right, up], axis=1)
    low = (samples @ axes).min(axis=0) - 2 * CELL
    cell = ((samples @ axes - low) / CELL).astype(int)
    size = cell.max(axis=0) + 3
    depth = np.full(size, -np.inf)
    np.maximum.at(depth, (cell[:, 0], cell[:, 1]), samples @ direction)
    own = np.clip(((points @ axes - low) / CELL).astype(int), 0, size - 1)
    return points @ direction + BIAS >= depth[own[:, 0], own[:, 1]]
