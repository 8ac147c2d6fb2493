"""Reading the ICT Face Model Light, from an ICT-FaceKit checkout or from one `.npz` with the same arrays.

The model (github.com/ICT-VGL/ICT-FaceKit, USC Institute for Creative Technologies, MIT) is a folder of OBJ files:
`generic_neutral_mesh.obj`, `identity000.obj` ... for each principal component and one file per expression, all of one
topology, beside `vertex_indices.json`. Lengths are centimetres; +x the subject's left, +y up, +z out of the face.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from tqdm import tqdm

from sheap_jax.files.array_files import read_npz as read_arrays
from sheap_jax.files.json_files import read_json
from sheap_jax.files.mesh_files import ObjMesh, parse_obj, triangle_fans
from sheap_jax.files.regular import read_whole

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
    arrays = read_arrays(path, way_out="give a clone of https://github.com/ICT-VGL/ICT-FaceKit")
    wanted = ("vertices", "faces", "uv", "uv_faces", "identity_basis", "expression_basis", "expression_names")
    missing = [key for key in (*wanted, "landmark68") if key not in arrays]
    if missing:
        raise ValueError(f"{path} is not an ICT face model: it lacks {', '.join(missing)}")
    values: dict[str, Any] = {key: arrays[key] for key in wanted}
    landmarks = arrays["landmark68"]
    names = tuple(str(name) for name in values.pop("expression_names"))
    return IctSource(**values, expression_names=names, landmarks=landmarks)


def read_checkout(path: Path) -> IctSource:
    """Read a clone of ICT-FaceKit: about 150 OBJ files, half a minute."""
    folder = path / "FaceXModel" if (path / "FaceXModel").is_dir() else path
    for name in ("generic_neutral_mesh.obj", "vertex_indices.json", "identity000.obj"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is missing: {path} is not a complete clone of ICT-FaceKit")
    neutral = _read_obj(folder / "generic_neutral_mesh.obj", with_faces=True)
    indices = read_json(folder / "vertex_indices.json")
    if not isinstance(indices, dict) or not {"expressions", "idx_to_landmark_verts"} <= set(indices):
        raise ValueError(f"{folder / 'vertex_indices.json'} lacks the expressions or landmarks: clone it again")
    expressions = tuple(map(str, indices["expressions"]))
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    meshes = [*identities, *(folder / f"{name}.obj" for name in expressions)]
    files = tqdm(meshes, desc="reading OBJ", unit="file")
    offsets = np.stack([_read_obj(file).vertices - neutral.vertices for file in files])
    return IctSource(
        vertices=neutral.vertices,
        faces=triangle_fans(neutral.polygons).astype(np.int32),
        uv=neutral.uv.astype(np.float32),
        uv_faces=triangle_fans(neutral.uv_polygons).astype(np.int32),
        identity_basis=offsets[: len(identities)],
        expression_basis=offsets[len(identities) :],
        expression_names=expressions,
        landmarks=np.asarray(indices["idx_to_landmark_verts"], np.int32),
    )


def _read_obj(path: Path, *, with_faces: bool = False) -> ObjMesh:
    """The model's part of one OBJ file, vertices in float32, without the shells at the end."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: the clone of ICT-FaceKit is not complete")
    try:
        mesh = parse_obj(read_whole(path).decode(errors="replace"), with_faces=with_faces, with_uv=with_faces)
    except ValueError as error:
        raise ValueError(f"{path} has broken vertices or faces ({error}): truncated?") from error
    if len(mesh.vertices) < NUM_VERTICES:
        raise ValueError(f"{path} has {len(mesh.vertices)} vertices, at least {NUM_VERTICES} expected: truncated?")
    if with_faces and len(mesh.polygons) < NUM_POLYGONS:
        raise ValueError(f"{path} has {len(mesh.polygons)} polygons, at least {NUM_POLYGONS} expected: truncated?")
    return ObjMesh(
        mesh.vertices[:NUM_VERTICES].astype(np.float32),
        mesh.uv,
        mesh.polygons[:NUM_POLYGONS],
        mesh.uv_polygons[:NUM_POLYGONS],
    )


def vertex_parts(count: int) -> Int32[np.ndarray, "v"]:
    """Index into PART_NAMES of each of the first `count` vertices."""
    return np.searchsorted([end for _, end, _ in PARTS], np.arange(count), side="right").astype(np.int32)
