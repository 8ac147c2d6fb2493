"""FLAME's landmarks from each of the files in use, and what is said of other ones."""

import pickle

import numpy as np
import pytest

from sheap_jax.morphable.flame_landmarks import read_landmarks
from tests.morphable import fake_flame

CONTENT = fake_flame.landmark_arrays()
SIXTY = {"full_lmk_faces_idx": np.zeros((1, 60), int), "full_lmk_bary_coords": np.full((1, 60, 3), 1 / 3)}
ROWS = CONTENT["dynamic_lmk_faces_idx"], CONTENT["dynamic_lmk_bary_coords"]


def assert_points(points, faces, barycentrics) -> None:
    np.testing.assert_array_equal(points.faces, faces)
    np.testing.assert_allclose(points.barycentrics, barycentrics, rtol=1e-6)


@pytest.mark.parametrize("eyes", [0, 2])
def test_deca(tmp_path, eyes):
    """landmark_embedding.npy; a variant has two eye centres more."""
    content = fake_flame.write_landmarks(tmp_path / "e.npy", eyes=eyes)
    read = read_landmarks(tmp_path / "e.npy", 8)
    assert_points(read.fixed, content["full_lmk_faces_idx"][0, :68], content["full_lmk_bary_coords"][0, :68])
    assert_points(read.contour, content["dynamic_lmk_faces_idx"], content["dynamic_lmk_bary_coords"])


def test_flames_own_pair(tmp_path):
    """51 landmarks and the jaw lines; the fixed jaw line is that of a head seen from the front, row 0."""
    static, dynamic = tmp_path / "flame_static_embedding.pkl", tmp_path / "flame_dynamic_embedding.npy"
    fake_flame.write_pair(static, dynamic)
    read = read_landmarks(static, 8, contour=dynamic)
    assert_points(read.contour, *ROWS)
    faces = np.concatenate([ROWS[0][0], CONTENT["static_lmk_faces_idx"]])
    assert_points(read.fixed, faces, np.concatenate([ROWS[1][0], CONTENT["static_lmk_bary_coords"]]))
    with pytest.raises(ValueError, match=r"flame_static_embedding\.pkl holds the 51 inner landmarks.* as --contour"):
        read_landmarks(static, 8)
    with pytest.raises(
        ValueError, match=r"flame_dynamic_embedding\.npy is the sliding jaw line .* give it as --contour"
    ):
        read_landmarks(dynamic, 8, contour=static)
    with pytest.raises(ValueError, match=r"flame_static_embedding\.pkl is a landmark .*; expected the sliding"):
        read_landmarks(static, 8, contour=static)


def test_sheap(tmp_path):
    """A tuple of two tensors: 68 landmarks and no jaw line that slides, unless one is given."""
    path, dynamic = tmp_path / "flame_landmark_idxs_barys.pt", tmp_path / "d.npy"
    fake_flame.write_sheap_landmarks(path)
    read = read_landmarks(path, 8)
    assert_points(read.fixed, CONTENT["full_lmk_faces_idx"][0], CONTENT["full_lmk_bary_coords"][0])
    assert read.contour.faces.shape == (0, 17)
    assert read.contour.barycentrics.shape == (0, 17, 3)
    fake_flame.write_pair(tmp_path / "s.pkl", dynamic)
    assert_points(read_landmarks(path, 8, contour=dynamic).contour, *ROWS)


def test_two_jaw_lines_are_one_too_many(tmp_path):
    fake_flame.write_landmarks(tmp_path / "e.npy")
    fake_flame.write_pair(tmp_path / "s.pkl", tmp_path / "d.npy")
    with pytest.raises(ValueError, match=r"e\.npy has a jaw line of its own: leave .*d\.npy \(--contour\) out"):
        read_landmarks(tmp_path / "e.npy", 8, contour=tmp_path / "d.npy")


def test_68_landmarks_in_a_static_file_need_no_contour(tmp_path):
    points = {"lmk_face_idx": CONTENT["full_lmk_faces_idx"][0], "lmk_b_coords": CONTENT["full_lmk_bary_coords"][0]}
    np.savez(tmp_path / "flame_static_embedding_68.npz", **points)
    read = read_landmarks(tmp_path / "flame_static_embedding_68.npz", 8)
    assert_points(read.fixed, *points.values())
    assert len(read.contour.faces) == 0


def _mediapipe() -> dict[str, np.ndarray]:
    points = {"lmk_face_idx": np.zeros(105, int), "lmk_b_coords": np.full((105, 3), 1 / 3)}
    return points | {"landmark_indices": np.arange(105)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_mediapipe(), "e.npz is the landmarks of MediaPipe .*; expected the landmarks"),
        ({"v_template": np.zeros((6, 3))}, "e.npz is a head or body model .*; expected the landmarks"),
        (CONTENT | {"full_lmk_faces_idx": np.full((1, 68), 8)}, "e.npz names face 8, the model has 8"),
        (CONTENT | {"dynamic_lmk_faces_idx": ROWS[0] - 9}, "belong to another model"),
        (CONTENT | {"full_lmk_bary_coords": np.ones((1, 68, 3))}, "do not sum to 1"),
        (CONTENT | {"full_lmk_bary_coords": np.ones((1, 68))}, "expected integers of some shape and three fractions"),
        (CONTENT | SIXTY, r"\(60,\) points, expected \(68,\)"),
        (CONTENT | {"dynamic_lmk_faces_idx": ROWS[0][:7], "dynamic_lmk_bary_coords": ROWS[1][:7]}, r"\(7, 17\) points"),
    ],
)
def test_other_content_is_named(tmp_path, content, words):
    np.savez(tmp_path / "e.npz", **content)
    with pytest.raises(ValueError, match=words) as error:
        read_landmarks(tmp_path / "e.npz", 8)
    assert "e.npz" in str(error.value)


def test_rows_of_different_lengths_are_no_contour(tmp_path):
    static = {"lmk_face_idx": CONTENT["static_lmk_faces_idx"], "lmk_b_coords": CONTENT["static_lmk_bary_coords"]}
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(static))
    ragged = {"lmk_face_idx": [[1, 2], [1]], "lmk_b_coords": [[[1.0, 0, 0]] * 2, [[1.0, 0, 0]]]}
    np.save(tmp_path / "d.npy", np.array(ragged, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"d\.npy"):
        read_landmarks(tmp_path / "s.pkl", 8, contour=tmp_path / "d.npy")
