"""The ICT model with about as many vertices as FLAME: some of its own vertices, chosen by a rule.

Teeth, gums and tongue go, the rest is decimated. The face keeps most: errors count there fully, less on the skull and
the eyeballs, hardly in the sockets. Several expressions and identities are looked at together, so that lips and lids,
which are closed or hidden in the neutral head, keep their detail. Landmarks stay, and so do the seams of the uv chart.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

from sheap_jax.morphable.decimation import decimate
from sheap_jax.morphable.ict_source import PART_NAMES, IctSource, vertex_parts

VERTICES = 5020
_LEFT_OUT = ("gums_tongue", "teeth")
_IMPORTANCE = {  # factor of squared errors
    "face": 1.0, "head_neck": 0.07, "mouth_socket": 0.005, "eye_socket_left": 0.005, "eye_socket_right": 0.005,
    "eyeball_left": 0.1, "eyeball_right": 0.1,
}  # fmt: skip
_EXPRESSIONS: tuple[Mapping[str, float], ...] = (  # without a side: on both
    {"jawOpen": 1.0},
    {"eyeBlink": 1.0},
    {"mouthSmile": 1.0, "cheekSquint": 1.0},
    {"mouthPucker": 1.0},
    {"browInnerUp": 1.0, "jawOpen": 0.4},
    {"noseSneer": 1.0, "browDown": 1.0, "mouthFrown": 1.0},
)
_IDENTITIES = 3  # of the first components, at two standard deviations each


class LiteTopology(NamedTuple):
    """The chosen mesh."""

    vertices: Int32[np.ndarray, "w"]  # source vertex of each vertex
    faces: Int32[np.ndarray, "f 3"]  # into `vertices`


def lite_topology(source: IctSource) -> LiteTopology:
    """The lite mesh of a source; some seconds. The same source gives the same mesh."""
    parts = vertex_parts(len(source.vertices))
    face_parts = parts[source.faces].max(axis=1)
    kept = ~np.isin(face_parts, [PART_NAMES.index(name) for name in _LEFT_OUT])
    locked = np.zeros(len(parts), bool)
    locked[source.landmarks] = True
    importance = np.array([_IMPORTANCE.get(name, 0.0) for name in PART_NAMES])[parts]
    triangles = decimate(
        _shapes(source),
        source.faces[kept],
        VERTICES,
        importance=importance,
        locked=locked,
        lines=_seams(source.faces[kept], source.uv_faces[kept]),
    )
    vertices, faces = np.unique(triangles, return_inverse=True)
    return LiteTopology(vertices.astype(np.int32), faces.reshape(-1, 3).astype(np.int32))


def _shapes(source: IctSource) -> Float[np.ndarray, "k v 3"]:
    """The neutral head, and heads of the expressions and identities that the source has."""
    shapes = [source.vertices]
    for weights in _EXPRESSIONS:
        channel = np.array(
            [weights.get(name.removesuffix("_L").removesuffix("_R"), 0) for name in source.expression_names]
        )
        if channel.any():
            shapes.append(source.vertices + np.tensordot(channel, source.expression_basis, 1))
    shapes += [source.vertices + 2.0 * offsets for offsets in source.identity_basis[:_IDENTITIES]]
    return np.stack(shapes)


def _seams(faces: Int[np.ndarray, "f 3"], uv_faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "e 2"]:
    """Edges whose two triangles have different uv points there."""
    ends = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    points = np.concatenate([uv_faces[:, [k, (k + 1) % 3]] for k in range(3)])
    order = np.argsort(ends, axis=1)
    ends, points = np.take_along_axis(ends, order, axis=1), np.take_along_axis(points, order, axis=1)
    sides = np.unique(np.concatenate([ends, points], axis=1), axis=0)[:, :2]
    edges, counts = np.unique(sides, axis=0, return_counts=True)
    return edges[counts > 1]
