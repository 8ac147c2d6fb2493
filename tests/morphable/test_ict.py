"""The ICT model: numbers against the source's own arrays, the skeleton and framing against geometry."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.evaluation.point_to_surface import Surface
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable import ict, ict_source
from sheap_jax.morphable.ict_lite import lite_topology
from sheap_jax.morphable.ict_source import NUM_VERTICES, PART_NAMES, PARTS, vertex_parts
from sheap_jax.morphable.model import forward, landmarks, mean_params
from sheap_jax.morphable.storage import load_model
from tests.refusal import refusal


@pytest.fixture(scope="module")
def source_file(shared_data):
    return shared_data / "ict_face_model.npz"


@pytest.fixture(scope="module")
def source(source_file):
    return ict_source.read_source(source_file)


@pytest.fixture(scope="module")
def topology(source):
    return lite_topology(source)


@pytest.fixture(scope="module")
def lite(source, topology):
    """Decimated once: that takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ict, "lite_topology", lambda source: topology)
        return ict.convert(source, subset="lite")


@pytest.fixture(scope="module")
def full(source):
    return ict.convert(source, subset="full")


def rotated(model, **degrees):
    """Mean parameters with joints turned about y."""
    params = mean_params(model)
    rotations = params.rotations
    for joint, angle in degrees.items():
        rotations = rotations.at[model.joint_names.index(joint), 1].set(np.radians(angle))
    return params._replace(rotations=rotations)


def test_shapes_equal_the_source_up_to_the_origin(source, topology, lite, full):
    """A random head, computed here from the source's arrays: same shape, in metres, for both subsets."""
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=100), rng.uniform(size=53)
    centimetres = (
        source.vertices
        + np.tensordot(identity, source.identity_basis, 1)
        + np.tensordot(expression, source.expression_basis, 1)
    )
    shift = np.asarray(lite.template[0]) - source.vertices[topology.vertices[0]] / 100
    for model, kept in ((lite, topology.vertices), (full, slice(None))):
        params = mean_params(model)._replace(shape=jnp.asarray(identity), expression=jnp.asarray(expression))
        np.testing.assert_allclose(forward(model, params), centimetres[kept] / 100 + shift, atol=2e-6)


def test_landmarks_are_the_listed_vertices(source, topology, lite):
    params = mean_params(lite)
    expected = source.vertices[source.landmarks] / 100 + (
        lite.template[0] - source.vertices[topology.vertices[0]] / 100
    )
    np.testing.assert_allclose(landmarks(lite, lite.template, params.rotations)[17:], expected[17:], atol=1e-6)
    fixed = np.asarray(lite.template)[np.asarray(lite.faces)[np.asarray(lite.landmark_faces)]]
    np.testing.assert_allclose((fixed * np.asarray(lite.landmark_barycentrics)[..., None]).sum(1), expected, atol=1e-6)


def test_mean_head_fills_the_official_window_by_the_crop_rule(lite):
    """The rule in plain numbers: 1.9 x the larger side of the landmarks' box, moved up by a quarter of that side."""
    fixed = np.asarray(lite.template)[np.asarray(lite.faces)[np.asarray(lite.landmark_faces)]]
    points = (fixed * np.asarray(lite.landmark_barycentrics)[..., None]).sum(1)
    pixels = np.asarray(project(jnp.asarray(points, jnp.float32), official_camera(200)))
    side = np.ptp(pixels, axis=0).max()
    center = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
    assert side * 1.9 == pytest.approx(200, abs=0.02)
    np.testing.assert_allclose(center - (0, 0.25 * side), (100, 100), atol=0.02)


def test_joints_sit_where_they_should(lite):
    joints = np.asarray(lite.joint_regressor @ lite.template)
    np.testing.assert_allclose(lite.joint_regressor.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(joints[:2, 0], 0.0, atol=1e-5)  # root and neck in the plane of symmetry
    np.testing.assert_allclose(joints[2], joints[3] * (-1, 1, 1), atol=1e-4)
    assert joints[0, 1] < joints[1, 1] < joints[2, 1]
    # The back of an eyeball is a sphere of 15.1 mm about its joint (fitted apart from this code to the source).
    eye = np.asarray(lite.template)[np.asarray(lite.regions["left_eye"]) > 0]
    back = eye[eye[:, 2] < joints[2, 2]]
    outer = np.linalg.norm(back - joints[2], axis=1)
    outer = outer[outer > 0.0147]  # without the iris shell inside
    np.testing.assert_allclose(outer, 0.0151, atol=5e-4)  # it is no perfect sphere
    assert np.median(outer) == pytest.approx(0.0151, abs=2e-4)


def test_eye_joints_follow_identity(source, lite):
    """A random identity moves the whole eyeball; its joint must move with the eyeball's centre."""
    identity = np.random.default_rng(1).normal(size=100)
    moved = np.asarray(lite.template) + np.tensordot(identity, np.asarray(lite.identity_basis), 1)
    eye = np.asarray(lite.regions["left_eye"]) > 0
    before, after = (np.asarray(lite.joint_regressor)[2] @ v for v in (np.asarray(lite.template), moved))
    center = [(v[eye].min(axis=0) + v[eye].max(axis=0)) / 2 for v in (np.asarray(lite.template), moved)]
    assert np.linalg.norm(center[1] - center[0]) > 5e-4
    np.testing.assert_allclose(after - before, center[1] - center[0], atol=3e-4)


def test_skinning_is_a_partition_with_a_rigid_skull(lite):
    weights = np.asarray(lite.skinning_weights)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    face, eye = np.asarray(lite.regions["face"]) > 0, np.asarray(lite.regions["right_eye"]) > 0
    np.testing.assert_allclose(weights[eye], np.tile([0, 0, 0, 1], (eye.sum(), 1)))
    points = np.asarray(lite.landmark_faces)
    assert weights[np.asarray(lite.faces)[points].ravel(), 1].min() > 0.99  # no landmark stretches with the neck
    assert weights[face, 1].min() >= 0.8


def test_neck_turns_the_head_and_leaves_its_lower_end(lite):
    posed = np.asarray(forward(lite, rotated(lite, neck=40.0)))
    template = np.asarray(lite.template)
    still = np.asarray(lite.skinning_weights)[:, 0] > 0.999
    assert still.sum() > 20
    np.testing.assert_allclose(posed[still], template[still], atol=2e-4)
    nose = np.asarray(lite.faces)[int(lite.landmark_faces[30])]
    assert posed[nose, 0].min() > 0.05  # positive about +y: towards the subject's left


def test_eyes_turn_in_their_sockets(lite):
    posed, template = np.asarray(forward(lite, rotated(lite, left_eye=30.0))), np.asarray(lite.template)
    eye = np.asarray(lite.regions["left_eye"]) > 0
    np.testing.assert_allclose(posed[~eye], template[~eye], atol=1e-6)
    front = np.flatnonzero(eye)[np.argmax(template[eye, 2])]
    assert posed[front, 0] - template[front, 0] > 0.006  # gaze to the subject's left
    center = np.asarray(lite.joint_regressor @ lite.template)[2]
    np.testing.assert_allclose(
        np.linalg.norm(posed[eye] - center, axis=1), np.linalg.norm(template[eye] - center, axis=1), atol=1e-5
    )


@pytest.mark.parametrize("yaw", [-35.0, -15.0, 15.0, 35.0])
def test_contour_lies_on_the_outline_of_the_turned_head(lite, yaw):
    """At the height of each far-side landmark no point of the cheek in front of it lies further out in the image."""
    params = rotated(lite, root=yaw)
    vertices = np.asarray(forward(lite, params))
    points = np.asarray(landmarks(lite, jnp.asarray(vertices), params.rotations))
    camera = official_camera(1000)
    pixels = np.asarray(project(jnp.asarray(vertices), camera))
    marks = np.asarray(project(jnp.asarray(points), camera))
    side = np.sign(yaw)  # turned to +x, the subject's left cheek turns away
    cheek = (np.asarray(lite.regions["face"]) > 0) & (np.asarray(lite.template)[:, 0] * side > 0.035)
    for i in (13, 14) if side > 0 else (3, 2):  # at the height of the cheek, where the outline is sharp
        level = cheek & (np.abs(vertices[:, 1] - points[i, 1]) < 0.003)
        assert level.sum() > 5
        assert marks[i, 0] * side > (pixels[level, 0] * side).max() - 8.0  # 2 mm


def test_contour_of_the_frontal_view_is_the_jaw_line(lite):
    straight = landmarks(lite, lite.template, mean_params(lite).rotations)
    fixed = landmarks(lite.replace(contour_faces=lite.contour_faces[:0]), lite.template, mean_params(lite).rotations)
    np.testing.assert_allclose(straight, fixed, atol=1e-7)


@pytest.mark.parametrize("subset", ["lite", "full"])
def test_uv_is_a_chart(request, subset):
    """Inside the unit square, small triangles without overlap on the face, and every face has area."""
    model = request.getfixturevalue(subset)
    uv = np.asarray(model.uv)
    assert uv.min() >= 0
    assert uv.max() <= 1
    corners = uv[np.asarray(model.uv_faces)]
    assert np.ptp(corners, axis=1).max() < 0.15  # no triangle crosses from one cell to another
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    assert np.abs(area).min() > 1e-9
    on_face = (np.asarray(model.regions["face"])[np.asarray(model.faces)] > 0).all(axis=1)
    assert (area[on_face] > 0).mean() > 0.99  # one orientation: nothing folds over


def test_part_table_agrees_with_the_file(source_file):
    with np.load(source_file) as arrays:
        np.testing.assert_array_equal(vertex_parts(NUM_VERTICES), arrays["vertex_part"])
        assert tuple(arrays["part_names"]) == PART_NAMES


def test_the_lite_mesh_is_as_close_as_one_made_apart_from_this_code(source, source_file, topology):
    """The file has a decimation of the same size by another program; a head that the rule did not look at."""
    rng = np.random.default_rng(5)
    weights = rng.uniform(size=53) * (rng.random(53) < 0.2)
    head = source.vertices + np.tensordot(rng.normal(size=100), source.identity_basis, 1)
    head = (head + np.tensordot(weights, source.expression_basis, 1)).astype(np.float64)
    with np.load(source_file) as arrays:
        others = {"file": (arrays["lite_vertices"], arrays["lite_faces"]), "rule": topology}
    parts = vertex_parts(NUM_VERTICES)
    for part, tolerance in (("face", 1.1), ("head_neck", 1.1), ("eyeball_left", 1.1)):
        points = head[parts == PART_NAMES.index(part)]
        mean = {name: Surface(head[v], f).closest(points).distances.mean() for name, (v, f) in others.items()}
        assert mean["rule"] < tolerance * mean["file"], part


def test_the_lite_mesh_keeps_landmarks_and_borders(source, topology):
    assert len(topology.vertices) == 5020
    assert np.isin(source.landmarks, topology.vertices).all()
    edges = np.sort(np.concatenate([topology.faces[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1)
    assert np.unique(edges, axis=0, return_counts=True)[1].max() == 2  # a surface still


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, source_file):
    """A clone of ICT-FaceKit with the real topology, two shapes, and a shell after the parts that are kept."""
    folder = tmp_path_factory.mktemp("ICT-FaceKit") / "FaceXModel"
    folder.mkdir()
    with np.load(source_file) as arrays:
        vertices, uv = arrays["vertices"], arrays["uv"]
        corners = np.stack([arrays["polygons"], arrays["uv_polygons"]], axis=-1) + 1
        identity, landmark_list = arrays["identity_basis"][0], arrays["landmark68"].tolist()
        jaw = arrays["expression_basis"][arrays["expression_names"].tolist().index("jawOpen")]
    faces = ["f " + " ".join(f"{v}/{t}" for v, t in polygon if v > 0) for polygon in corners.tolist()]
    rest = [f"vt {u} {v}" for u, v in uv.tolist()] + faces + ["f 24592/1 24593/2 24594/3"]
    meshes = {"generic_neutral_mesh": 0 * vertices, "identity000": identity, "jawOpen": jaw}
    for name, offset in meshes.items():
        points = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (vertices + offset).tolist()]
        (folder / f"{name}.obj").write_text("\n".join(["# ICT", *points, "v 0 0 0", "v 1 0 0", "v 0 1 0", *rest]))
    content = {"expressions": ["jawOpen"], "idx_to_landmark_verts": landmark_list}
    (folder / "vertex_indices.json").write_text(json.dumps(content))
    return folder.parent


def test_checkout_and_npz_give_the_same_arrays(checkout, source):
    read = ict_source.read_source(checkout)
    np.testing.assert_allclose(read.vertices, source.vertices, atol=1e-5)
    np.testing.assert_array_equal(read.faces, source.faces)
    np.testing.assert_allclose(read.uv[read.uv_faces], source.uv[source.uv_faces], atol=1e-6)
    np.testing.assert_allclose(read.identity_basis, source.identity_basis[:1], atol=1e-5)
    jaw = source.expression_names.index("jawOpen")
    np.testing.assert_allclose(read.expression_basis[0], source.expression_basis[jaw], atol=1e-5)
    np.testing.assert_array_equal(read.landmarks, source.landmarks)


def test_incomplete_sources_name_what_is_missing(tmp_path, checkout):
    with pytest.raises(FileNotFoundError, match=r"github\.com/ICT-VGL/ICT-FaceKit"):
        ict_source.read_source(tmp_path / "nowhere")
    checkout = shutil.copytree(checkout, tmp_path / "clone")
    mesh = checkout / "FaceXModel" / "jawOpen.obj"
    mesh.write_text(mesh.read_text()[:100_000])
    with pytest.raises(ValueError, match=r"jawOpen\.obj has .* vertices.*truncated"):
        ict_source.read_source(checkout)
    mesh.unlink()
    with pytest.raises(FileNotFoundError, match=r"jawOpen\.obj is missing"):
        ict_source.read_source(checkout)
    np.savez(tmp_path / "other.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="lacks faces"):
        ict_source.read_source(tmp_path / "other.npz")


def test_parts_are_consecutive():
    ends = np.array([end for _, end, _ in PARTS])
    assert (np.diff(ends) > 0).all()


def test_command_writes_a_model(tmp_path, source_file, capsys):
    ict.main([str(source_file), str(tmp_path / "ict.npz")])
    model = load_model(tmp_path / "ict.npz")
    assert (model.name, model.template.shape) == ("ict-lite", (5020, 3))
    assert len(model.expression_names) == 53
    assert "5020 vertices" in capsys.readouterr().out
    assert "does not exist" in refusal(ict, [str(tmp_path / "nowhere"), str(tmp_path / "out.npz")], capsys)
