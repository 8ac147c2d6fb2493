"""Where landmarks come from and how far each is trusted."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.landmarks import (
    MEDIAPIPE_TO_68,
    FaceLandmarker,
    NpzLandmarks,
    landmark_weights,
    landmark_yaw,
)
from tests.data.tiny_videos import HEIGHT, WIDTH, all_points, draw, face_points, write_landmarks, write_video


def test_face_landmarker_without_mediapipe_says_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)  # makes the import fail
    (tmp_path / "model.task").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"pip install 'sheap-jax\[prepare\]'"):
        FaceLandmarker(tmp_path / "model.task")


def test_another_file_than_the_landmarkers_model_is_named(tmp_path, monkeypatch):
    def refuse(options):
        raise RuntimeError("Unable to open zip archive.")

    vision = SimpleNamespace(FaceLandmarker=SimpleNamespace(create_from_options=refuse), FaceLandmarkerOptions=dict)
    tasks = SimpleNamespace(BaseOptions=dict, vision=vision)
    for name, module in {"mediapipe": tasks, "mediapipe.tasks": tasks, "mediapipe.tasks.python": tasks}.items():
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "README.md").touch()
    with pytest.raises(ValueError, match=r"README\.md cannot be used as .*face_landmarker\.task \(Unable to open zip"):
        FaceLandmarker(tmp_path / "README.md")


def test_face_landmarker_agrees_with_the_stored_landmarks(shared_data):
    pytest.importorskip("mediapipe", reason="needs mediapipe (pip install 'sheap-jax[prepare]')")
    with np.load(shared_data / "faces" / "landmarks.npz") as stored:
        files, expected = stored["public_domain_files"].tolist(), stored["public_domain_lmk68"]
    landmarker = FaceLandmarker(shared_data / "models" / "face_landmarker.task")
    for file, points in zip(files, expected, strict=True):
        image = cv2.cvtColor(cv2.imread(str(shared_data / "faces" / file)), cv2.COLOR_BGR2RGB)
        (found,) = landmarker.detect(0, image)
        between_eyes = np.linalg.norm(points[45] - points[36])
        assert np.linalg.norm(found - points, axis=1).mean() < 0.02 * between_eyes
    assert len(landmarker.detect(0, np.zeros((64, 64, 3), np.uint8))) == 0
    landmarker.close()


def test_landmark_files_are_matched_by_the_longest_path(tmp_path):
    video = write_video(tmp_path / "b" / "x.mp4", 1)
    shifted = all_points(1) + 3.0
    path = write_landmarks(tmp_path / "points.npz", {"a/x.mp4": all_points(1), "b/x.mp4": shifted})
    landmarks = NpzLandmarks(path)
    landmarks.start(Clip("x", "x", (video,), is_video=True))
    np.testing.assert_allclose(landmarks.detect(0, draw(0)), shifted[:1], rtol=1e-6)


def test_of_several_faces_those_with_a_low_score_are_none(tmp_path):
    scores = np.linspace(0.1, 0.9, 12).reshape(4, 3)
    points = np.broadcast_to(all_points(4)[:, None], (4, 3, 68, 2))
    np.savez(tmp_path / "points.npz", sets=["s"], s_files=["x.mp4"], s_lmk68=points, s_score=scores)
    landmarks = NpzLandmarks(tmp_path / "points.npz", min_confidence=0.5)
    landmarks.start(Clip("x", "x", (tmp_path / "x.mp4",), is_video=True))
    found = [len(landmarks.detect(frame, draw(frame))) for frame in range(4)]
    assert found == (scores >= 0.5).sum(axis=1).tolist()


def test_scores_for_other_faces_are_refused(tmp_path):
    np.savez(tmp_path / "points.npz", sets=["s"], s_files=["x.mp4"], s_lmk68=all_points(4), s_score=np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"points\.npz: s_score is \(4, 2\) for landmarks \(4, 68, 2\)"):
        NpzLandmarks(tmp_path / "points.npz")


def test_yaw_of_a_turned_head():
    """Eye corners and nose of an average head (centimetres), turned, projected and rolled."""
    head = np.zeros((68, 3))
    head[[36, 45, 30]] = (-4.5, 3.4, 8.6), (4.5, 3.4, 8.6), (0.0, 0.4, 13.1)
    for yaw in np.radians([-40, -15, 0, 25]):
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        image = (head @ turn.T)[:, :2] * (1, -1)
        roll = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
        # Rolling moves the nose's drop below the eyes along the eye line only in the image's own axes.
        assert landmark_yaw(image @ roll.T) == pytest.approx(yaw, abs=np.radians(2.0))


def test_jaw_weights_fall_with_yaw_and_the_rest_stays():
    points = face_points()
    frontal = landmark_weights(points, height=HEIGHT, width=WIDTH)
    np.testing.assert_allclose(frontal, 1.0)
    points[30, 0] += 12 * np.tan(np.radians(20.0))
    turned = landmark_weights(points, height=HEIGHT, width=WIDTH)
    np.testing.assert_allclose(turned[[0, 6, 10, 16]], 0.5, atol=1e-6)
    np.testing.assert_allclose(turned[[7, 8, 9, *range(17, 68)]], 1.0)


def test_mediapipe_table_reproduces_the_stored_landmarks(shared_data):
    with np.load(shared_data / "faces" / "landmarks.npz") as stored:
        mesh, expected = stored["dafoe_raw478"][..., :2], stored["dafoe_lmk68"]
    np.testing.assert_allclose(mesh[:, MEDIAPIPE_TO_68].mean(axis=2), expected, atol=1e-3)
