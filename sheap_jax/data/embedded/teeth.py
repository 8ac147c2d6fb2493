"""Two rows of teeth behind the lips, which the embedded head does not have."""

import numpy as np
from jaxtyping import Float, Int

ACROSS, DOWN = 13, 3
HALF_WIDTH = 0.024  # metres
ARCH = 24.0  # curvature of the dental arch, 1/metres: depth = ARCH x^2
BEHIND_LIPS = 0.007
UPPER, LOWER = (0.0085, -0.0035), (-0.001, -0.011)  # heights of the two edges of a row over the line between the lips
INNER_LIPS = slice(60, 68)


def tooth_rows(landmarks: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "2 t 3"]:
    """Vertices of the upper and the lower row for a neutral head with these landmarks, metres."""
    middle = landmarks[INNER_LIPS].mean(axis=0)
    front = landmarks[INNER_LIPS, 2].max() - BEHIND_LIPS
    x = np.linspace(-HALF_WIDTH, HALF_WIDTH, ACROSS)
    rows = []
    for (high, low), setback in ((UPPER, 0.0), (LOWER, 0.0025)):
        y = np.linspace(high, low, DOWN)[:, None] + middle[1]
        z = front - setback - ARCH * x**2
        grid = np.broadcast_arrays(middle[0] + x[None], y, z[None])
        rows.append(np.stack(grid, axis=-1).reshape(-1, 3))
    return np.stack(rows).astype(np.float32)


def tooth_faces() -> Int[np.ndarray, "f 3"]:
    """Triangles of both rows, facing forward."""
    index = np.arange(ACROSS * DOWN).reshape(DOWN, ACROSS)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    one = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return np.concatenate([one, one + ACROSS * DOWN])


def tooth_coordinates() -> Float[np.ndarray, "v 3"]:
    """x across in metres; y 1 at the gums and 0 at the edge; z 0 for the upper row and 1 for the lower."""
    x = np.broadcast_to(np.linspace(-HALF_WIDTH, HALF_WIDTH, ACROSS), (DOWN, ACROSS))
    upper = np.broadcast_to(np.linspace(1, 0, DOWN)[:, None], (DOWN, ACROSS))
    rows = [np.stack([x, y, np.full_like(x, z)], axis=-1) for y, z in ((upper, 0.0), (1 - upper, 1.0))]
    return np.concatenate([row.reshape(-1, 3) for row in rows]).astype(np.float32)
