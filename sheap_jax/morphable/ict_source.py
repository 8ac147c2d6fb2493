"""Reading the ICT Face Model Light, from an ICT-FaceKit checkout or from one `.npz` with the same arrays.

The model (github.com/ICT-VGL/ICT-FaceKit, USC Institute for Creative Technologies, MIT) is a folder of OBJ files:
`generic_neutral_mesh.obj`, `identity000.obj` ... for each principal component and one file per expression, all of one
topology, beside `vertex_indices.json`. Lengths are centimetres; +x the subject's left, +y up, +z out of the face.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from tqdm import tqdm

# First vertex and first polygon after each part, from the topology table in ICT-FaceKit's README. The parts after the
# eyeballs (tear film, eye occlusion, lashes) are shells for renderers and are left out.
PARTS = (
    ("face", 9409, 9230),
    ("head_neck", 11248, 11144),
    ("mouth_socket", 13294, 13226),
    ("eye_socket_left", 13678, 13630),
    ("eye_socket_right", 14062, 14034),
    ("gums_tongue", 17039, 17006),
    ("teeth", 21451, 21496),
    ("eyeball_left", 23021, 23094),
    ("eyeball_right", 24591, 24692),
)
PART_NAMES = tuple(name for name, _, _ in PARTS)
NUM_VERTICES, NUM_POLYGONS = PARTS[-1][1:]
NARROW_FACE_END = 6706  # vertices [0:6705]: the face without ears and neck
IRIS_START = {"eyeball_left": 22221, "eyeball_right": 23791}  # within the eyeball: sclera first, then iris


class IctSource(NamedTuple):
    """The arrays of the source in its own units and numbering."""

    vertices: Float32[np.ndarray, "v 3"]  # centimetres
    faces: Int32[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "u 2"]  # u counts tiles: face 0..1, head 1..2, gums 2..3, teeth 3..4, eyeballs 0..1
    uv_faces: Int32[np.ndarray, "f 3"]
    identity_basis: Float32[np.ndarray, "s v 3"]
    expression_basis: Float32[np.ndarray, "e v 3"]
    expression_names: tuple[str, ...]
    landmarks: Int32[np.ndarray, "68"]  # vertex per landmark


def read_source(path: str | Path) -> IctSource:
    """Read a checkout (a folder) or an `.npz`.

    Raises:
      FileNotFoundError: nothing there, or a file of the checkout is missing; says where to get it.
      ValueError: a file has another layout; names it.
    """
    path = Path(path)
    if path.is_dir():
        return read_checkout(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give a clone of https://github.com/ICT-VGL/ICT-FaceKit or an .npz made of one"
        )
    return read_npz(path)


def read_npz(path: Path) -> IctSource:
    """Read the arrays from an `.npz` (keys vertices, faces, uv, uv_faces, the two bases, names, landmark68)."""
    with np.load(path, allow_pickle=False) as arrays:
        wanted = ("vertices", "faces", "uv", "uv_faces", "identity_basis", "expression_basis", "expression_names")
        missing = [key for key in (*wanted, "landmark68") if key not in arrays.files]
        if missing:
            raise ValueError(f"{path} is not an ICT face model: it lacks {', '.join(missing)}")
        values = {key: arrays[key] for key in wanted}
        landmarks = arrays["landmark68"]
    names = tuple(str(name) for name in values.pop("expression_names"))
    return IctSource(**values, expression_names=names, landmarks=landmarks)


def read_checkout(path: Path) -> IctSource:
    """Read a clone of ICT-FaceKit: about 150 OBJ files, half a minute."""
    folder = path / "FaceXModel" if (path / "FaceXModel").is_dir() else path
    for name in ("generic_neutral_mesh.obj", "vertex_indices.json", "identity000.obj"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is missing: {path} is not a complete clone of ICT-FaceKit")
    neutral, polygons, uv, uv_polygons = _read_neutral(folder / "generic_neutral_mesh.obj")
    indices = json.loads((folder / "vertex_indices.json").read_text())
    expressions = tuple(indices["expressions"])
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    meshes = [*identities, *(folder / f"{name}.obj" for name in expressions)]
    offsets = np.stack([read_obj_vertices(file) - neutral for file in tqdm(meshes, desc="reading OBJ", unit="file")])
    return IctSource(
        vertices=neutral,
        faces=_fan(polygons),
        uv=uv,
        uv_faces=_fan(uv_polygons),
        identity_basis=offsets[: len(identities)],
        expression_basis=offsets[len(identities) :],
        expression_names=expressions,
        landmarks=np.asarray(indices["idx_to_landmark_verts"], np.int32),
    )


def read_obj_vertices(path: Path) -> Float32[np.ndarray, "v 3"]:
    """The model's vertices in one OBJ file, without the shells at the end."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: the clone of ICT-FaceKit is not complete")
    lines = (line[2:] for line in path.read_text().splitlines() if line.startswith("v "))
    vertices = np.array(" ".join(lines).split(), np.float64)
    if vertices.size % 3 or vertices.size < 3 * NUM_VERTICES:
        raise ValueError(f"{path} has {vertices.size / 3:g} vertices, at least {NUM_VERTICES} expected: truncated?")
    return vertices.reshape(-1, 3)[:NUM_VERTICES].astype(np.float32)


def _read_neutral(path: Path) -> tuple[np.ndarray, list[list[int]], np.ndarray, list[list[int]]]:
    """Vertices, polygons, uv and uv polygons (lists of 3 or 4 indices) of the neutral mesh."""
    polygons, uv_polygons, uv = [], [], []
    for line in path.read_text().splitlines():
        if line.startswith("vt "):
            uv.append([float(number) for number in line.split()[1:3]])
        elif line.startswith("f "):
            corners = [re.split("/", corner) for corner in line.split()[1:]]
            polygons.append([int(corner[0]) - 1 for corner in corners])
            uv_polygons.append([int(corner[1]) - 1 for corner in corners])
    if len(polygons) < NUM_POLYGONS:
        raise ValueError(f"{path} has {len(polygons)} polygons, at least {NUM_POLYGONS} expected: truncated?")
    polygons, uv_polygons = polygons[:NUM_POLYGONS], uv_polygons[:NUM_POLYGONS]
    return read_obj_vertices(path), polygons, np.asarray(uv, np.float32), uv_polygons


def _fan(polygons: list[list[int]]) -> Int32[np.ndarray, "f 3"]:
    """Triangles of convex polygons: (0, 1, 2), (0, 2, 3) ..., in order."""
    return np.asarray([[p[0], p[i], p[i + 1]] for p in polygons for i in range(1, len(p) - 1)], np.int32)


def vertex_parts(count: int) -> Int32[np.ndarray, "v"]:
    """Index into PART_NAMES of each of the first `count` vertices."""
    return np.searchsorted([end for _, end, _ in PARTS], np.arange(count), side="right").astype(np.int32)
