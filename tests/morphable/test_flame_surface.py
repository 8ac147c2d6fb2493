"""The uv layout, eyelid shapes and regions of FLAME's other files."""

import pickle

import numpy as np
import pytest

from sheap_jax.morphable.flame_surface import read_eyelids, read_regions, read_uv
from tests.morphable import fake_flame

FACES = fake_flame.FACES.astype(np.int64)


def test_uv_is_matched_to_the_models_own_faces(tmp_path):
    expected = fake_flame.write_template(tmp_path / "t.obj")
    text = (tmp_path / "t.obj").read_text()
    (tmp_path / "windows.obj").write_bytes(text.replace("\n", "\r\n").encode())
    for path in (tmp_path / "t.obj", tmp_path / "windows.obj"):
        layout = read_uv(path, FACES)
        for face, corners in zip(fake_flame.FACES.tolist(), layout.faces, strict=True):
            for vertex, corner in zip(face, corners, strict=True):
                np.testing.assert_allclose(layout.uv[corner], expected[vertex, *sorted(face)])


def test_uv_with_normals_and_negative_indices(tmp_path):
    """`v/vt/vn`, and indices that count from the end, as some programs save them."""
    lines = [f"v {x} {y} {z}" for x, y, z in fake_flame.TEMPLATE] + [f"vt {i / 8} 0.5" for i in range(8)]
    lines += ["vn 0 0 1"]
    lines += [f"f {a + 1}/{k + 1}/1 {b - 6}/{k - 8}/1 {c + 1}/{k + 1}/1" for k, (a, b, c) in enumerate(FACES)]
    (tmp_path / "t.obj").write_text("\n".join(lines))
    layout = read_uv(tmp_path / "t.obj", FACES)
    np.testing.assert_array_equal(layout.faces, np.arange(8)[:, None].repeat(3, axis=1))


def test_flames_texture_space(tmp_path):
    uv, corners = np.random.default_rng(0).uniform(size=(9, 2)), FACES + 1
    np.savez(tmp_path / "FLAME_texture.npz", vt=uv, ft=corners.astype(np.uint32), mean=np.zeros(3))
    layout = read_uv(tmp_path / "FLAME_texture.npz", FACES)
    np.testing.assert_array_equal(layout.uv, uv)
    np.testing.assert_array_equal(layout.faces, corners)
    np.savez(tmp_path / "text.npz", vt=np.array(["a"]), ft=corners)
    with pytest.raises(ValueError, match=r"text\.npz: vt \(1,\) and ft \(8, 3\) do not fit"):
        read_uv(tmp_path / "text.npz", FACES)
    with pytest.raises(ValueError, match=r"FLAME_texture\.npz: vt .* do not fit the model's 7 faces"):
        read_uv(tmp_path / "FLAME_texture.npz", FACES[:7])


def test_no_file_no_uv():
    layout = read_uv(None, FACES)
    assert layout.uv.shape == (0, 2)
    assert layout.faces.shape == (0, 3)


VERTICES = "v 1 2 3\nv 1 2 3\nv 1 2 4\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VERTICES, "t.obj is an OBJ mesh without faces; expected the uv layout \\(head_template.obj"),
        (VERTICES + "f 1 2 3\n", "t.obj is an OBJ mesh without texture coordinates .* without --template"),
        (VERTICES + "vn 0 0 1\nf 1//1 2//1 3//1\n", "t.obj is an OBJ mesh without texture coordinates"),
        (VERTICES + "vt 0 0\nf 1/1 2/1 3\n", "t.obj is an OBJ mesh without texture coordinates"),
        (VERTICES + "vt 0 0\nf 1/1 2/2 3/1\n", "names texture coordinate 2, it has 1"),
        (VERTICES + "vt 0 0\nf 1/1 2/1 3/1 1/1\n", "faces with more than three corners"),
        (VERTICES + "vt 0 0\nf 1/1 2/1 3/1\n", "t.obj has 1 triangles, other ones than the model's 8"),
        (VERTICES + "vt 0 x\n", "t.obj, line 4: 'vt 0 x' is no line of an OBJ mesh"),
        (VERTICES + "vt 0\n", "t.obj, line 4: 'vt 0' is no line of an OBJ mesh"),
        ("version https://git-lfs.github.com/spec/v1\n", "t.obj is a Git LFS pointer"),
        ("<!DOCTYPE html>\n<html>", "t.obj is a web page"),
        ("", "t.obj is an empty file"),
    ],
)
def test_templates_without_uv_are_called_that(tmp_path, text, words):
    (tmp_path / "t.obj").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_uv(tmp_path / "t.obj", FACES)


def test_a_pickle_is_no_template(tmp_path):
    (tmp_path / "t.obj").write_bytes(pickle.dumps({"face": np.zeros(2, int), "scalp": np.zeros(2, int)}))
    with pytest.raises(ValueError, match=r"t\.obj is FLAME's vertex regions .*; expected the uv layout"):
        read_uv(tmp_path / "t.obj", FACES)


def test_eyelids_of_sheap_are_right_then_left(tmp_path):
    offsets = np.random.default_rng(4).normal(size=(6, 3, 2)).astype(np.float32)
    read = read_eyelids([fake_flame.write_eyelids(tmp_path / "eyelids.pt", offsets)], fake_flame.TEMPLATE)
    np.testing.assert_array_equal(read, np.moveaxis(offsets, -1, 0))


def test_two_files_of_one_eyelid_each(tmp_path):
    """The subject's left is at +x, where vertex 0 lies; vertex 1 lies on the right."""
    left, right = np.zeros((6, 3)), np.zeros((6, 3))
    left[0], right[1] = (0, -0.01, 0), (0, -0.02, 0)
    np.save(tmp_path / "l_eyelid.npy", left)
    np.save(tmp_path / "r_eyelid.npy", right)
    for names in (("l_eyelid.npy", "r_eyelid.npy"), ("r_eyelid.npy", "l_eyelid.npy")):
        read = read_eyelids([tmp_path / name for name in names], fake_flame.TEMPLATE)
        np.testing.assert_array_equal(read, [right, left])
    with pytest.raises(ValueError, match=r"l_eyelid\.npy holds one eyelid: .* second --eyelids"):
        read_eyelids([tmp_path / "l_eyelid.npy"], fake_flame.TEMPLATE)
    with pytest.raises(ValueError, match=r"l_eyelid\.npy holds \(6, 3\), expected \(5, 3, 2\)"):
        read_eyelids([tmp_path / "l_eyelid.npy"], fake_flame.TEMPLATE[:5])
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"face": 0, "scalp": 0}))
    with pytest.raises(ValueError, match=r"x\.pkl is FLAME's vertex regions.*; expected two eyelid shapes"):
        read_eyelids([tmp_path / "x.pkl"], fake_flame.TEMPLATE)


def test_regions(tmp_path):
    masks = tmp_path / "FLAME_masks.pkl"
    content = {"face": np.array([0, 4]), "left_eyeball": np.array([2]), "left_eye_region": np.array([], int)}
    masks.write_bytes(pickle.dumps(content, protocol=2))
    regions = read_regions(masks, 6)
    np.testing.assert_array_equal(regions["face"], [1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(regions["left_eye"], [0, 0, 1, 0, 0, 0])
    assert set(regions) == {"face", "left_eye", "left_eye_region"}
    np.testing.assert_array_equal(read_regions(None, 6)["face"], np.ones(6))
    with pytest.raises(ValueError, match=r"FLAME_masks\.pkl: the region face does not list some of the model's 4"):
        read_regions(masks, 4)
    for vertices in (None, ["a"], [[1, 2], [1]], np.array([0.5])):
        masks.write_bytes(pickle.dumps({"face": vertices, "scalp": np.array([1])}))
        with pytest.raises(ValueError, match=r"FLAME_masks\.pkl: the region face does not list"):
            read_regions(masks, 6)
    masks.write_bytes(pickle.dumps({"v_template": 0}))
    with pytest.raises(ValueError, match=r"FLAME_masks\.pkl is a head or body model.*; expected the vertex regions"):
        read_regions(masks, 6)
