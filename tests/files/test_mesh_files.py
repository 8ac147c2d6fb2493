import io

import numpy as np
import pytest
import trimesh

from sheap_jax.evaluation.geometry_scores import in_threads
from sheap_jax.evaluation.scans import face_region, load_scan
from sheap_jax.files.mesh_files import (
    NO_UV,
    parse_obj,
    ply_bytes,
    read_landmarks7,
    read_mesh,
    read_vertices,
    triangle_fans,
    write_obj,
)

BALL = trimesh.creation.icosphere(subdivisions=2, radius=3.0)
VERTICES, FACES = np.asarray(BALL.vertices), np.asarray(BALL.faces)


def test_obj_and_ply_come_back(tmp_path):
    write_obj(tmp_path / "ball.obj", VERTICES, FACES)
    (tmp_path / "ball.ply").write_bytes(ply_bytes(VERTICES, FACES))
    for name, tolerance in (("ball.obj", 6e-8), ("ball.ply", 3e-7)):
        mesh = read_mesh(tmp_path / name)
        np.testing.assert_allclose(mesh.vertices, VERTICES, atol=tolerance)
        np.testing.assert_array_equal(mesh.faces, FACES)
        theirs = trimesh.load(tmp_path / name, process=False)
        np.testing.assert_allclose(np.asarray(theirs.vertices), VERTICES, atol=tolerance)
        np.testing.assert_array_equal(np.asarray(theirs.faces), FACES)


def test_meshes_of_other_writers(tmp_path):
    for kind, encoding in (("obj", None), ("ply", "ascii"), ("ply", "binary")):
        path = tmp_path / f"ball.{kind}"
        BALL.export(path, **({"encoding": encoding} if encoding else {}))
        mesh = read_mesh(path)
        np.testing.assert_allclose(mesh.vertices, VERTICES, atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, FACES)


def test_ply_files_are_read_in_threads(tmp_path):
    """trimesh's own reader fails there on Python 3.11."""
    BALL.export(tmp_path / "ball.ply")
    found = in_threads(read_mesh, [tmp_path / "ball.ply"] * 40, threads=8)
    assert all(len(mesh.faces) == len(FACES) for mesh in found)


def test_obj_keeps_every_vertex_once_whatever_the_faces_say(tmp_path):
    """Texture seams, normals, colours, polygons, indices from the end, an unused vertex, equal vertices."""
    path = tmp_path / "scan.obj"
    path.write_text(
        "o scan\nv 0 0 0 1 0 0\nv 1 0 0 1 0 0\r\nv 1 1 0\nv 0 1 0\nv 0 0 0\nv 9 9 9\nvt 0 0\nvt 1 1\nvn 0 0 1\n"
        "f 1/1/1 2/1/1 3/1/1 4/1/1\nf 1/2/1 2/2/1 5//1\nf -6 -5 -4\n"
    )
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [9, 9, 9]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 4], [0, 1, 2]])
    np.testing.assert_array_equal(read_vertices(path), mesh.vertices)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
        ("a.obj", "v 0 0 0\nv 1 0\nf 1 2 1\n", r"a\.obj cannot be read"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 nan 0\nf 1 2 3\n", "all finite"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "does not exist"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 3", r"a\.ply cannot be read"),
        ("a.stl", "", "read from .obj and .ply"),
    ],
)
def test_damaged_meshes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_mesh(tmp_path / name)


def test_landmarks_in_all_formats(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 3))
    np.save(tmp_path / "a.npy", points)
    np.savetxt(tmp_path / "a.txt", points)
    np.savetxt(tmp_path / "b.txt", points, delimiter=", ")
    rows = "".join(f'<point name="{k}" x="{x}" z="{z}" y="{y}"/>' for k, (x, y, z) in enumerate(points.tolist()))
    (tmp_path / "a.pp").write_text(f"<!DOCTYPE PickedPoints><PickedPoints>{rows}</PickedPoints>")
    for name in ("a.npy", "a.txt", "b.txt", "a.pp"):
        np.testing.assert_allclose(read_landmarks7(tmp_path / name), points, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pp", b"<PickedPoints><point x='1' y='2'/></PickedPoints>", "KeyError"),
        ("a.pp", b"<PickedPoints><point", "ParseError"),
        ("a.txt", b"1 2 3\n4 5 6\n", r"shape \(2, 3\)"),
        ("a.txt", b"1 2 3\n4 5\n", r"a\.txt cannot be read"),
        ("a.npy", b"\x93NUMPY", r"a\.npy cannot be read"),
    ],
)
def test_damaged_landmarks_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_landmarks7(tmp_path / name)


def test_pickled_landmarks_are_not_run(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array({"a": 1}, dtype=object), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="cannot be read"):
        read_landmarks7(tmp_path / "a.npy")


# Eyes 10 apart (outer) on the line y = 6, bridge over the nose at the origin.
FACE = np.array([[-5.0, 6, 0], [-2, 6, 0], [2, 6, 0], [5, 6, 0], [0, 0, 0], [-2, -3, 0], [2, -3, 0]])


def test_the_ball_that_counts():
    """Centre 0.3 of the way from nose to bridge, radius 1.4 (10 + 6) / 2, by hand."""
    center, radius = np.array([0, 1.8, 0]), 11.2
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert face_region(center + 0.999 * radius * directions, FACE).all()
    assert not face_region(center + 1.001 * radius * directions, FACE).any()


def test_scans_are_cropped_and_in_metres(tmp_path):
    rng = np.random.default_rng(1)
    points = rng.uniform(-30, 30, (4000, 3))
    (tmp_path / "scan.obj").write_text("".join(f"v {x} {y} {z}\n" for x, y, z in points))
    np.save(tmp_path / "lmk.npy", FACE)
    scan = load_scan(tmp_path / "scan.obj", tmp_path / "lmk.npy")
    expected = points[np.linalg.norm(points - [0, 1.8, 0], axis=1) <= 11.2] / 1000
    np.testing.assert_allclose(scan.points, expected)
    np.testing.assert_allclose(scan.landmarks, FACE / 1000)
    np.save(tmp_path / "lmk.npy", FACE / 1000)
    with pytest.raises(ValueError, match="one unit"):
        load_scan(tmp_path / "scan.obj", tmp_path / "lmk.npy")


def test_obj_lines_come_back_with_indices_from_zero():
    corners = "f 1/1/1 2/2/1 3/-1 -1//1\n"
    mesh = parse_obj("v 0 0 0\nv 1  0 0\nv 1 1 0 0.5 0.5 0.5\nv 0 1 0\nvt 0 0\nvt 1 0.5 0\n" + corners, with_uv=True)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.uv, [[0, 0], [1, 0.5]])
    assert mesh.polygons == [[0, 1, 2, 3]]
    assert mesh.uv_polygons == [[0, 1, 1, NO_UV]]
    np.testing.assert_array_equal(triangle_fans(mesh.polygons), [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("line", ["v 1 x 0", "v 1 0", "vt 0", "f 1 2 x", "f 1/1 2/1 3/-2", "f 1 2 -3"])
def test_a_broken_line_of_an_obj_is_named(line):
    text = f"v 0 0 0\nvt 0 0\n# {line}\n{line}\nv 1 0 0\n"
    with pytest.raises(ValueError, match=f"line 4: '{line}' is no line of an OBJ mesh"):
        parse_obj(text, with_uv=True)
