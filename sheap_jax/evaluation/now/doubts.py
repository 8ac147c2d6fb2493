"""Signs that a prediction is a mistake although it can be scored. NoW's own script does not look for them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from sheap_jax.evaluation.alignment import procrustes
from sheap_jax.evaluation.geometry_scores import Mesh

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
FAR = 0.1  # from the mesh, in distances of the outer eye corners: some 9 mm
WRONG_SIZE = 1.3  # factor between the best size and what the unit says
MIRRORED = 0.5  # residual of the mirrored landmarks over that of the landmarks as they are
MISFIT = 0.05  # smaller residuals, in distances of the outer eye corners, are no misfit
_RIGHT_OUTER, _LEFT_OUTER = 0, 3
_NAMES = (
    "right eye's outer", "right eye's inner", "left eye's inner", "left eye's outer corner", "nose", "mouth's right",
    "mouth's left corner",
)  # fmt: skip


def doubts(mesh: Mesh, scan: Float[np.ndarray, "7 3"], *, known_unit: bool) -> Iterator[str]:
    """A line for everything about a prediction that is probably a mistake, with its likely cause.

    Args:
        mesh: the prediction, in metres if its unit is known.
        scan: the scan's seven landmarks, metres.
    """
    eyes = np.linalg.norm(mesh.landmarks[_RIGHT_OUTER] - mesh.landmarks[_LEFT_OUTER])
    gaps = np.array([np.linalg.norm(mesh.vertices - point, axis=1).min() for point in mesh.landmarks])
    if gaps.max() > FAR * eyes:
        worst = int(gaps.argmax())
        yield (
            f"landmark {worst} ({_NAMES[worst]}) lies {gaps.max() / eyes:.2f} eye distances off the mesh: "
            "are mesh and landmarks of one pose, expression and unit?"
        )
    best = procrustes(mesh.landmarks, scan, with_scale=True)
    sizes = [1.0] if known_unit else list(UNITS.values())
    ratio = min((best.scale / size for size in sizes), key=lambda value: abs(np.log(value)))
    if not 1 / WRONG_SIZE < ratio < WRONG_SIZE:
        allowed = "the --unit given" if known_unit else f"{', '.join(UNITS)}"
        yield f"it must grow {ratio:.3g} times to fit, for {allowed}: wrong unit, or a mesh without true size?"
    mirrored = mesh.landmarks * np.array([-1.0, 1.0, 1.0])
    misfits = [
        np.sqrt(np.mean(np.sum((procrustes(points, scan, with_scale=True).apply(points) - scan) ** 2, axis=1)))
        for points in (mesh.landmarks, mirrored)
    ]
    eyes_of_scan = np.linalg.norm(scan[_RIGHT_OUTER] - scan[_LEFT_OUTER])
    if misfits[0] > MISFIT * eyes_of_scan and misfits[1] < MIRRORED * misfits[0]:
        yield "its landmarks fit better mirrored: left and right exchanged, or an axis negated?"
