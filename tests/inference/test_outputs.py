"""The files that are written, read by others."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from sheap_jax.cropping import CropBox
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.files.mesh_files import read_mesh
from sheap_jax.inference import outputs
from sheap_jax.inference.pipeline import Footage, Prediction
from sheap_jax.morphable import forward
from sheap_jax.morphable.arkit import ARKIT_NAMES
from sheap_jax.morphable.model import mean_params
from tests.training.conftest import ellipsoid

MODEL = ellipsoid()


def make_prediction(*, is_video: bool = False) -> Prediction:
    """Two heads in one picture, or in frames 0 and 3."""
    rng = np.random.default_rng(0)
    head = jax.tree.map(lambda x: rng.normal(0.0, 0.1, x.shape).astype(np.float32), mean_params(MODEL, 2))
    clip = Clip("a/b", "a/b", (Path("a/b.mp4" if is_video else "a/b.jpg"),), is_video)
    frame, track = (np.array([0, 3]), np.zeros(2, int)) if is_video else (np.zeros(2, int), np.array([0, 1]))
    box = CropBox(np.array([[300.0, 200.0], [100.0, 120.0]]), np.array([95.0, 40.0]))
    times = np.arange(5 if is_video else 2) / 25.0
    return Prediction(Footage(clip, times, 480, 640), frame, track, box, head)


def vertices_of(prediction: Prediction) -> np.ndarray:
    return np.asarray(forward(MODEL, jax.tree.map(jnp.asarray, prediction.head)))


def test_meshes_are_read_by_others_with_their_texture_coordinates(tmp_path):
    prediction = make_prediction()
    folder = outputs.write_outputs(tmp_path, MODEL, prediction, ["obj", "ply", "glb"])
    assert folder == tmp_path / "a/b"
    corners = vertices_of(prediction)[:, np.asarray(MODEL.faces)]
    uv = np.asarray(MODEL.uv)[np.asarray(MODEL.uv_faces)]
    for k in range(2):
        for suffix in ("obj", "ply"):  # the same vertices in the same order
            mesh = read_mesh(folder / f"head_{k}.{suffix}")
            np.testing.assert_allclose(mesh.vertices[mesh.faces], corners[k], atol=1e-6)
            assert len(mesh.vertices) == len(MODEL.template)
        for suffix in ("obj", "ply", "glb"):
            theirs = trimesh.load(folder / f"head_{k}.{suffix}", process=False, force="mesh")
            np.testing.assert_allclose(theirs.vertices[theirs.faces], corners[k], atol=1e-6)
            np.testing.assert_allclose(theirs.visual.uv[theirs.faces], uv, atol=1e-6)


def test_meshes_of_a_model_without_texture_coordinates(tmp_path):
    prediction = make_prediction()
    model = MODEL.replace(uv=MODEL.uv[:0], uv_faces=MODEL.uv_faces[:0])
    folder = outputs.write_outputs(tmp_path, model, prediction, ["obj", "ply", "glb"])
    corners = vertices_of(prediction)[:, np.asarray(MODEL.faces)]
    for suffix in ("obj", "ply", "glb"):
        theirs = trimesh.load(folder / f"head_0.{suffix}", process=False, force="mesh")
        np.testing.assert_allclose(theirs.vertices[theirs.faces], corners[0], atol=1e-6)
        assert getattr(theirs.visual, "uv", None) is None


def test_projected_vertices_and_landmarks_fit_the_stored_cameras(tmp_path):
    prediction = make_prediction()
    folder = outputs.write_outputs(tmp_path, MODEL, prediction, ["params", "landmarks", "camera"])
    stored, cameras = np.load(folder / "params.npz"), json.loads((folder / "camera.json").read_text())
    points = np.load(folder / "landmarks.npz")
    assert (cameras["width"], cameras["height"]) == (640, 480)
    for k, face in enumerate(cameras["faces"]):
        np.testing.assert_allclose(stored["camera"][k], face["P"])
        np.testing.assert_allclose(np.array(face["K"]) @ np.array(face["viewmat"])[:3], face["P"])
        homogeneous = np.append(points["landmarks3d"][k], np.ones((68, 1)), axis=1) @ np.array(face["P"]).T
        np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], points["landmarks"][k], rtol=1e-6)
    assert points["landmarks"].shape == (2, 68, 2)


def test_parameters_under_both_names():
    prediction = make_prediction()
    arrays = outputs.head_arrays(MODEL, prediction)
    head = prediction.head
    expected = {
        "shape_from_facenet": head.shape, "expr": head.expression, "cam_trans": head.translation,
        "torso_pose": head.rotations[:, 0], "jaw_pose": head.rotations[:, 1], "neck_pose": np.zeros((2, 3)),
        "eye_l_pose": np.zeros((2, 3)), "eye_r_pose": np.zeros((2, 3)), "eyelids": np.zeros((2, 2)),
    }  # fmt: skip
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value)
    # FLAME with the release's eyelids: two expression channels of their own.
    lidded = MODEL.replace(expression_names=("a", "eyelid_right"))
    arrays = outputs.official_arrays(lidded, prediction)
    np.testing.assert_array_equal(arrays["expr"], head.expression[:, :1])
    np.testing.assert_array_equal(arrays["eyelids"], head.expression[:, 1:])


def test_arkit_table(tmp_path):
    prediction = make_prediction(is_video=True)
    with pytest.raises(ValueError, match="ellipsoid has no ARKit blendshapes"):
        outputs.write_outputs(tmp_path, MODEL, prediction, ["arkit"])
    weights = np.tile(np.linspace(0.0, 1.0, 52), (2, 1))
    model = MODEL.replace(expression_names=ARKIT_NAMES, expression_basis=jnp.zeros((52, 42, 3)))
    prediction = prediction._replace(head=prediction.head._replace(expression=weights))
    folder = outputs.write_outputs(tmp_path, model, prediction, ["arkit"])
    assert outputs.is_output("arkit.csv")
    rows = np.genfromtxt(folder / "arkit.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("frame", "track", *ARKIT_NAMES)
    np.testing.assert_array_equal(rows["frame"], (0, 3))
    np.testing.assert_allclose(rows["jawOpen"], weights[0, ARKIT_NAMES.index("jawOpen")], atol=1e-4)


def test_a_mesh_for_every_frame_of_a_video(tmp_path):
    folder = outputs.write_outputs(tmp_path, MODEL, make_prediction(is_video=True), ["ply"])
    assert sorted(file.name for file in folder.iterdir()) == ["head_0_000000.ply", "head_0_000003.ply"]


def test_nothing_half_written_is_left_and_nothing_else_is_touched(tmp_path, monkeypatch):
    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/mine.txt").write_text("keep")
    (tmp_path / "a/b/params.npz").write_text("the run before")
    with monkeypatch.context() as patch:
        patch.setitem(outputs.WRITERS, "obj", full_disk)
        with pytest.raises(OSError, match="No space"):
            outputs.write_outputs(tmp_path, MODEL, make_prediction(), ["params", "obj"])
    assert sorted(file.name for file in (tmp_path / "a/b").iterdir()) == ["mine.txt", "params.npz"]
    assert (tmp_path / "a/b/params.npz").read_text() == "the run before"
    outputs.write_outputs(tmp_path, MODEL, make_prediction(), ["params"])
    assert "frame" in np.load(tmp_path / "a/b/params.npz")
    assert (tmp_path / "a/b/mine.txt").read_text() == "keep"


def test_a_new_prediction_replaces_the_old_one_as_a_whole(tmp_path):
    """Other kinds, other faces, a photograph where a video was; what has a name of its own stays."""
    others = {"mine.txt", "head_0.stl", "head_a.obj", "head_0_smile.obj", "overlay.jpg", "params.npz.bak"}
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    for name in others:
        (folder / name).write_text("keep")
    kinds = ["params", "landmarks", "camera", "obj", "ply", "glb"]
    video, photograph = make_prediction(is_video=True), make_prediction()
    for prediction, wanted in ((video, kinds), (photograph, kinds), (video, ["params", "obj"]), (photograph, ["ply"])):
        outputs.write_outputs(tmp_path, MODEL, prediction, wanted)
    assert {path.name for path in folder.iterdir()} == others | {"head_0.ply", "head_1.ply"}


def test_a_folder_in_the_way_costs_no_older_file(tmp_path):
    (tmp_path / "a/b/params.npz").mkdir(parents=True)
    (tmp_path / "a/b/head_7.obj").write_text("the run before")
    with pytest.raises(IsADirectoryError, match=r"params\.npz is a folder where a file has to be: move it"):
        outputs.write_outputs(tmp_path, MODEL, make_prediction(), ["camera", "params"])
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == ["head_7.obj", "params.npz"]
