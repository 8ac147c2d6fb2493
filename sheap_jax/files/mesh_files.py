"""Triangle meshes and landmarks in the files that face benchmarks and modelling programs use.

Our own reader of OBJ keeps the vertices as they are. General readers split or merge them at texture seams. An error
that is pooled over the vertices of a scan then changes, because some of them count twice.
"""

import xml.etree.ElementTree as ElementTree
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sheap_jax.files.array_files import read_npy
from sheap_jax.files.regular import read_whole
from sheap_jax.files.whole_file import whole_file

_ply_lock = Lock()  # trimesh's PLY reader compiles the header, which fails in threads on Python 3.11


class MeshFile(NamedTuple):
    """Vertices in the unit of the file."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]  # polygons are cut into fans


class TextureChart(NamedTuple):
    """Texture coordinates of a mesh: its faces have corners of their own, so that seams need no second vertex."""

    uv: Float[np.ndarray, "u 2"]  # in [0, 1], v up
    faces: Int[np.ndarray, "f 3"]


class ObjMesh(NamedTuple):
    """The lines of an OBJ file. Indices count from 0, whatever the file does."""

    vertices: Float[np.ndarray, "v 3"]
    uv: Float[np.ndarray, "u 2"]
    polygons: list[list[int]]  # vertices of the corners
    uv_polygons: list[list[int]]  # texture coordinates of the corners, NO_UV where one has none


NO_UV = -1
_MOST_INDEX = 2**31 - 1
_MOST_XML = 2**20  # bytes of seven picked points
_MOST_PLY_HEADER = 2**16


def parse_obj(text: str, *, with_faces: bool = True, with_uv: bool = False) -> ObjMesh:
    """The vertices of an OBJ file as they stand there, and what else is asked for; the rest of the file is ignored.

    Raises ValueError that names the line: a number is none, or an index counts beyond the file's start.
    """
    lines = text.splitlines()
    vertices = _numbers(lines, "v ", 3)
    uv = _numbers(lines, "vt ", 2) if with_uv else np.zeros((0, 2))
    polygons, uv_polygons = [], []
    for number, line in enumerate(lines if with_faces else [], start=1):
        if not line.startswith("f "):
            continue
        try:  # a corner is "vertex/texture/normal"
            corners = [f"{corner}/".split("/")[: 1 + with_uv] for corner in line.split()[1:]]
            polygons.append([_from_zero(int(corner[0]), len(vertices)) for corner in corners])
            if with_uv:
                uv_polygons.append([_from_zero(int(text), len(uv)) if text else NO_UV for _, text in corners])
        except ValueError as error:
            raise ValueError(_not_obj(number, line)) from error
    return ObjMesh(vertices, uv, polygons, uv_polygons)


def triangle_fans(polygons: list[list[int]]) -> Int[np.ndarray, "f 3"]:
    """Triangles of convex polygons: (0, 1, 2), (0, 2, 3) ..., in order."""
    fans = [(polygon[0], *pair) for polygon in polygons for pair in pairwise(polygon[1:])]
    return np.array(fans, np.int64).reshape(-1, 3)


def _numbers(lines: list[str], start: str, count: int) -> Float[np.ndarray, "n c"]:
    """The first `count` numbers of each line that starts so."""
    rows = [line for line in lines if line.startswith(start)]
    try:
        if all(row.count(" ") == count for row in rows):  # five times as fast
            return np.array(" ".join(row[len(start) :] for row in rows).split(), np.float64).reshape(len(rows), count)
        return np.array([row.split()[1 : count + 1] for row in rows], np.float64).reshape(len(rows), count)
    except ValueError:
        for number, line in enumerate(lines, start=1):  # once more, to name the line
            if line.startswith(start):
                try:
                    np.array(line.split()[1 : count + 1], np.float64).reshape(count)
                except ValueError as error:
                    raise ValueError(_not_obj(number, line)) from error
        raise


def _from_zero(index: int, count: int) -> int:
    """An index that counts from 1, or from the end if it is negative."""
    if index < -count:
        raise ValueError(f"the index {index} lies before the first of {count}")
    if index > _MOST_INDEX:
        raise ValueError(f"the index {index} is that of no mesh")
    return index - 1 if index > 0 else count + index


def _not_obj(number: int, line: str) -> str:
    return f"line {number}: {line[:60]!r} is no line of an OBJ mesh"


def read_mesh(path: str | Path) -> MeshFile:
    """A mesh from a .obj or .ply file, vertices in the file's order.

    Raises FileNotFoundError; ValueError if the file is damaged, holds no triangles, or is of another kind.
    """
    vertices, faces = _read(Path(path), with_faces=True)
    if not len(faces):
        raise ValueError(f"{path} holds no triangles: a predicted head must be a mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"{path}: a face names a vertex that does not exist (there are {len(vertices)})")
    return MeshFile(vertices, faces)


def read_vertices(path: str | Path) -> Float[np.ndarray, "v 3"]:
    """The vertices of a .obj or .ply file: all that is needed of a scan. Errors as in `read_mesh`."""
    return _read(Path(path), with_faces=False).vertices


def write_obj(
    path: str | Path,
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    *,
    chart: TextureChart | None = None,
) -> None:
    """Write a mesh as OBJ with seven decimals: a tenth of a micrometre, if the unit is a metre."""
    lines = [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in vertices.tolist()]
    corners = (np.asarray(faces) + 1).tolist()
    if chart is None:
        lines += [f"f {a} {b} {c}" for a, b, c in corners]
    else:
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in chart.uv.tolist()]
        textures = (np.asarray(chart.faces) + 1).tolist()
        lines += [f"f {a}/{s} {b}/{t} {c}/{u}" for (a, b, c), (s, t, u) in zip(corners, textures, strict=True)]
    with whole_file(path, durable=False) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def ply_bytes(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], *, chart: TextureChart | None = None
) -> bytes:
    """A mesh as binary PLY, float32; texture coordinates at the corners of faces, as MeshLab reads them."""
    fields = [("count", "u1"), ("corners", "<i4", 3)]
    texture = ""
    if chart is not None:
        fields += [("numbers", "u1"), ("uv", "<f4", 6)]
        texture = "property list uchar float texcoord\n"
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\n{texture}end_header\n"
    )
    rows = np.empty(len(faces), np.dtype(fields))
    rows["count"], rows["corners"] = 3, faces
    if chart is not None:
        rows["numbers"], rows["uv"] = 6, np.asarray(chart.uv)[chart.faces].reshape(-1, 6)
    return header.encode() + np.asarray(vertices, "<f4").tobytes() + rows.tobytes()


def glb_bytes(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], *, chart: TextureChart | None = None
) -> bytes:
    """A mesh as binary glTF. The format has one texture coordinate per vertex: vertices at seams are doubled."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    if chart is None:
        plain: Any = trimesh.Trimesh(np.asarray(vertices), np.asarray(faces), process=False).export(file_type="glb")
        return plain
    corners = np.stack([np.asarray(faces), np.asarray(chart.faces)], axis=-1).reshape(-1, 2)
    pairs, index = np.unique(corners, axis=0, return_inverse=True)
    material = PBRMaterial(baseColorFactor=[200, 200, 200, 255], roughnessFactor=0.9)
    visual = TextureVisuals(uv=np.asarray(chart.uv)[pairs[:, 1]], material=material)
    mesh = trimesh.Trimesh(np.asarray(vertices)[pairs[:, 0]], index.reshape(-1, 3), visual=visual, process=False)
    data: Any = mesh.export(file_type="glb")
    return data


def read_landmarks7(path: str | Path) -> Float[np.ndarray, "7 3"]:
    """NoW's seven landmarks from .npy, .txt (numbers in seven lines) or .pp (points picked in MeshLab).

    Raises FileNotFoundError; ValueError if the file does not hold seven finite points.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            points = read_npy(path)
        elif path.suffix == ".pp":
            picked = _xml(read_whole(path, most=_MOST_XML)).iter("point")
            points = [[float(point.attrib[axis]) for axis in "xyz"] for point in picked]
        else:
            lines = read_whole(path, most=_MOST_XML).decode().splitlines()
            points = [line.replace(",", " ").split() for line in lines if line.strip()]
        points = np.asarray(points, np.float64)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, EOFError, OSError, ElementTree.ParseError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}): damaged?") from error
    if points.shape != (7, 3) or not np.isfinite(points).all():
        raise ValueError(f"{path} should hold 7 finite points of 3 coordinates, it has the shape {points.shape}")
    return points


def _read(path: Path, *, with_faces: bool) -> MeshFile:
    try:
        if path.suffix.lower() == ".obj":
            mesh = _read_obj(read_whole(path).decode(errors="replace"), with_faces=with_faces)
        elif path.suffix.lower() == ".ply":
            mesh = _read_ply(read_whole(path))
        else:
            raise ValueError("meshes are read from .obj and .ply files")
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}): damaged?") from error
    if not len(mesh.vertices) or not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path} holds {len(mesh.vertices)} vertices; there must be some, and all finite")
    return mesh


def _read_obj(text: str, *, with_faces: bool) -> MeshFile:
    mesh = parse_obj(text, with_faces=with_faces)
    return MeshFile(mesh.vertices, triangle_fans(mesh.polygons))


def _read_ply(data: bytes) -> MeshFile:
    import trimesh

    _check_ply_counts(data)
    with _ply_lock:
        loaded: Any = trimesh.load(BytesIO(data), file_type="ply", process=False)
    faces = getattr(loaded, "faces", np.zeros((0, 3)))
    return MeshFile(np.asarray(loaded.vertices, np.float64), np.asarray(faces, np.int64))


def _check_ply_counts(data: bytes) -> None:
    """ValueError if a PLY states more vertices or faces than it has bytes: its reader takes their memory first."""
    header, end, _ = data[:_MOST_PLY_HEADER].partition(b"end_header")
    if not data.startswith(b"ply") or not end:
        raise ValueError("it has no header of a PLY mesh")
    counts = [line.split()[-1] for line in header.splitlines() if line.startswith(b"element ")]
    if sum(int(count) for count in counts) > len(data) or any(int(count) < 0 for count in counts):
        raise ValueError(f"it states {b', '.join(counts).decode(errors='replace')} elements in {len(data)} bytes")


def _xml(data: bytes) -> ElementTree.Element:
    """The root of an XML text that defines no entities, with which a short one can grow without end."""
    if b"<!ENTITY" in data:
        raise ValueError("it defines entities")
    return ElementTree.fromstring(data)
