"""FLAME's files, faked byte for byte, come out as the arrays that went in; malicious ones are refused unread."""

import pickle
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sheap_jax.morphable import flame
from sheap_jax.morphable.model import forward, landmarks, mean_params
from sheap_jax.morphable.storage import load_model
from sheap_jax.safe_pickle import UnsafePickleError, load_npy, load_pickle
from sheap_jax.torch_files import load_torch
from tests.malicious import Payload
from tests.morphable import fake_flame


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One set of good files."""
    paths = {"model": tmp_path / "generic_model.pkl", "landmarks": tmp_path / "landmark_embedding.npy"}
    paths |= {"template": tmp_path / "head_template.obj"}
    fake_flame.write_model(paths["model"], fake_flame.flame_arrays())
    fake_flame.write_landmarks(paths["landmarks"])
    fake_flame.write_template(paths["template"])
    return paths


def test_arrays_come_out_as_they_went_in(files):
    arrays = fake_flame.flame_arrays()
    model = flame.read_flame(**files)
    np.testing.assert_allclose(model.template, arrays["v_template"], rtol=1e-6)
    np.testing.assert_array_equal(model.faces, arrays["f"])
    assert model.identity_basis.shape == (300, 6, 3)
    assert model.expression_basis.shape == (100, 6, 3)
    for channel in (0, 299):
        np.testing.assert_allclose(model.identity_basis[channel], arrays["shapedirs"][..., channel], rtol=1e-6)
    np.testing.assert_allclose(model.expression_basis[7], arrays["shapedirs"][..., 307], rtol=1e-6)
    np.testing.assert_allclose(model.joint_regressor, arrays["J_regressor"], rtol=1e-6)
    np.testing.assert_allclose(model.skinning_weights, arrays["weights"], rtol=1e-6)
    assert model.parents == (-1, 0, 1, 1, 1)  # the root is stored as 2^32 - 1
    assert model.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")


@pytest.mark.parametrize("protocol", [0, 2])
def test_old_pickle_protocols(tmp_path, protocol):
    """Protocol 0 rebuilds objects through copy_reg, 2 through their class."""
    arrays = fake_flame.flame_arrays()
    content = load_pickle(fake_flame.write_model(tmp_path / "m.pkl", arrays, protocol=protocol))
    for key, array in arrays.items():
        np.testing.assert_array_equal(content[key], array)


def test_arrays_pickled_by_python_2(tmp_path):
    """Python 2, which wrote FLAME's files, has byte strings where Python 3 has `_codecs.encode`."""
    data = np.array([1.5, -2.0]).tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    (tmp_path / "p2.pkl").write_bytes(
        b"\x80\x02" + empty + b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb."
    )
    np.testing.assert_array_equal(load_pickle(tmp_path / "p2.pkl"), [1.5, -2.0])


def test_pose_correctives_follow_smpl(files):
    """With a rigid mesh, only posedirs [v, c, 9 j + 3 r + k] x (R_j - I)[r, k] moves vertices (SMPL, eq. 9)."""
    model = flame.read_flame(**files)
    model = model.replace(skinning_weights=jnp.eye(5)[jnp.zeros(6, int)])  # all on the root
    rotations = np.random.default_rng(3).normal(size=(5, 3)) * 0.3
    rotations[0] = 0
    params = mean_params(model)._replace(rotations=jnp.asarray(rotations, jnp.float32))
    deviation = Rotation.from_rotvec(rotations[1:]).as_matrix() - np.eye(3)
    expected = fake_flame.TEMPLATE + fake_flame.flame_arrays()["posedirs"] @ deviation.reshape(36)
    np.testing.assert_allclose(forward(model, params), expected, atol=1e-7)


@pytest.mark.parametrize("eyes", [0, 2])
def test_landmarks(tmp_path, eyes):
    content = fake_flame.write_landmarks(tmp_path / "e.npy", eyes=eyes)
    read = flame.read_landmarks(tmp_path / "e.npy", 8)
    np.testing.assert_array_equal(read.faces, content["full_lmk_faces_idx"][0, :68])
    np.testing.assert_allclose(read.barycentrics, content["full_lmk_bary_coords"][0, :68])
    np.testing.assert_array_equal(read.contour_faces, content["dynamic_lmk_faces_idx"])
    np.testing.assert_allclose(read.contour_barycentrics, content["dynamic_lmk_bary_coords"])


def test_uv_is_matched_to_the_models_own_faces(tmp_path):
    expected = fake_flame.write_template(tmp_path / "t.obj")
    layout = flame.read_uv(tmp_path / "t.obj", fake_flame.FACES.astype(np.int64))
    for face, corners in zip(fake_flame.FACES.tolist(), layout.faces, strict=True):
        for vertex, corner in zip(face, corners, strict=True):
            np.testing.assert_allclose(layout.uv[corner], expected[vertex, *sorted(face)])


def test_eyelids_are_two_more_expressions(files, tmp_path):
    offsets = np.random.default_rng(4).normal(size=(6, 3, 2)).astype(np.float32)
    eyelids = fake_flame.write_eyelids(tmp_path / "eyelids.pt", offsets)
    model = flame.read_flame(**files, eyelids=eyelids)
    assert model.expression_names[-2:] == ("eyelid_right", "eyelid_left")
    np.testing.assert_array_equal(model.expression_basis[100], offsets[..., 0])
    np.testing.assert_array_equal(model.expression_basis[101], offsets[..., 1])


def test_regions(files, tmp_path):
    masks = tmp_path / "FLAME_masks.pkl"
    masks.write_bytes(pickle.dumps({"face": np.array([0, 4]), "left_eyeball": np.array([2])}, protocol=2))
    regions = flame.read_flame(**files, masks=masks).regions
    np.testing.assert_array_equal(regions["face"], [1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(regions["left_eye"], [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(flame.read_flame(**files).regions["face"], np.ones(6))


def test_malicious_files_are_refused_and_not_run(files, tmp_path):
    target = tmp_path / "executed"
    evil = Payload(target)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": evil}))
    np.save(tmp_path / "evil.npy", np.array({"full_lmk_faces_idx": evil}, dtype=object), allow_pickle=True)
    with pytest.raises(UnsafePickleError, match=r"evil\.pkl was refused.*builtins\.exec"):
        flame.read_flame(**files | {"model": tmp_path / "evil.pkl"})
    with pytest.raises(UnsafePickleError, match=r"evil\.npy was refused"):
        flame.read_flame(**files | {"landmarks": tmp_path / "evil.npy"})
    nested = pickle.dumps(evil)  # where torch's old format would have its magic number
    program = b"\x80\x02ctorch.storage\n_load_from_bytes\nB" + len(nested).to_bytes(4, "little") + nested + b"\x85R."
    (tmp_path / "nested.pkl").write_bytes(program)
    with pytest.raises(UnsafePickleError, match=r"builtins\.exec"):
        load_pickle(tmp_path / "nested.pkl")
    assert not target.exists()
    pickle.loads(pickle.dumps(evil))
    assert target.exists()  # the payload would have worked


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\ngetattr\n(S'a'\nS'b'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"ccopyreg\n_reconstructor\n(cnumpy\ndtype\ncbuiltins\nobject\nNtR.",
        b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",
    ],
)
def test_names_outside_the_allow_list_are_refused(tmp_path, program):
    (tmp_path / "p.pkl").write_bytes(program)
    with pytest.raises(UnsafePickleError, match=r"p\.pkl was refused"):
        load_pickle(tmp_path / "p.pkl")


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path):
    offsets = np.zeros((6, 3, 2), np.float32)
    path = fake_flame.write_eyelids(tmp_path / "eyelids.pt", offsets)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "mixed.pt", "w") as mixed:
        mixed.writestr("e/data.pkl", good.read("eyelids/data.pkl"))
        mixed.writestr("e/data/0", np.zeros(30, np.float32).tobytes())
    with pytest.raises(UnsafePickleError, match="beyond its storage"):
        load_torch(tmp_path / "mixed.pt")


def test_damaged_files_are_named(files, tmp_path):
    for path, load in ((files["model"], load_pickle), (files["landmarks"], load_npy)):
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(UnsafePickleError, match=path.name):
            load(path)
    (tmp_path / "eyelids.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsafePickleError, match=r"eyelids\.pt cannot be read"):
        load_torch(tmp_path / "eyelids.pt")


def test_files_that_do_not_fit_are_named(files, tmp_path):
    arrays = fake_flame.flame_arrays()
    fake_flame.write_model(tmp_path / "short.pkl", arrays | {"posedirs": arrays["posedirs"][..., :27]})
    with pytest.raises(ValueError, match=r"short\.pkl: posedirs is \(6, 3, 27\)"):
        flame.read_flame(**files | {"model": tmp_path / "short.pkl"})
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"list\.pkl is not a FLAME model"):
        flame.read_flame(**files | {"model": tmp_path / "list.pkl"})
    with pytest.raises(ValueError, match="belongs to another model"):
        flame.read_landmarks(files["landmarks"], 4)
    template = files["template"]
    template.write_text(template.read_text().rsplit("\n", 1)[0])
    with pytest.raises(ValueError, match=r"head_template\.obj has other triangles"):
        flame.read_flame(**files)
    with pytest.raises(FileNotFoundError):
        flame.read_flame(**files | {"model": tmp_path / "nowhere.pkl"})


def test_posing_is_flames_against_independent_float64_skinning(files, tmp_path):
    """Everything at once: identity, expression, eyelids before skinning, pose correctives, all five joints."""
    rng = np.random.default_rng(5)
    lids = rng.normal(size=(6, 3, 2)).astype(np.float32) * 0.01
    model = flame.read_flame(**files, eyelids=fake_flame.write_eyelids(tmp_path / "eyelids.pt", lids))
    shape, expression, eyelids = rng.normal(size=300), rng.normal(size=100), rng.uniform(size=2)
    rotations, translation = rng.normal(size=(5, 3)) * 0.5, rng.normal(size=3)
    params = mean_params(model)._replace(
        shape=jnp.asarray(shape, jnp.float32),
        expression=jnp.asarray([*expression, *eyelids], jnp.float32),
        rotations=jnp.asarray(rotations, jnp.float32),
        translation=jnp.asarray(translation, jnp.float32),
    )
    arrays = fake_flame.flame_arrays()
    identity = arrays["v_template"] + arrays["shapedirs"][..., :300] @ shape
    joints = arrays["J_regressor"] @ identity
    turned = Rotation.from_rotvec(rotations).as_matrix()
    corrected = identity + arrays["shapedirs"][..., 300:] @ expression + lids.astype(float) @ eyelids
    corrected = corrected + arrays["posedirs"] @ (turned[1:] - np.eye(3)).reshape(36)
    transforms = []
    for joint, parent in enumerate((None, 0, 1, 1, 1)):  # root, neck, jaw and eyes on the neck
        local = np.eye(4)
        local[:3, :3] = turned[joint]
        local[:3, 3] = joints[joint] - turned[joint] @ joints[joint]  # about the joint of the unposed head
        transforms.append(local if parent is None else transforms[parent] @ local)
    blended = np.einsum("vj,jab->vab", arrays["weights"], np.array(transforms))
    expected = np.einsum("vab,vb->va", blended[:, :3, :3], corrected) + blended[:, :3, 3] + translation
    np.testing.assert_allclose(forward(model, params), expected, atol=2e-6)


@pytest.mark.parametrize(("degrees", "row"), [(0, 0), (17, 17), (60, 39), (-1, 40), (-23, 62), (-70, 78)])
def test_the_contour_slides_by_yaw(files, degrees, row):
    """Rows 0-39 for yaw >= 0, else 39 - yaw, at most 78; the other 51 landmarks keep their faces."""
    content = fake_flame.write_landmarks(files["landmarks"])
    model = flame.read_flame(**files)
    angle = np.radians(degrees)
    params = mean_params(model)._replace(rotations=jnp.zeros((5, 3)).at[0, 1].set(angle))
    vertices = forward(model, params)
    found = landmarks(model, vertices, params.rotations)
    contour = content["dynamic_lmk_faces_idx"][row], content["dynamic_lmk_bary_coords"][row]
    fixed = content["full_lmk_faces_idx"][0, 17:68], content["full_lmk_bary_coords"][0, 17:68]
    expected = [
        np.einsum("lk,lkc->lc", weights, np.asarray(vertices)[fake_flame.FACES[faces]])
        for faces, weights in (contour, fixed)
    ]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-6)


def test_command_writes_a_model(files, tmp_path, capsys):
    named = [f"--{key}={files[key]}" for key in ("model", "landmarks", "template")]
    flame.main([*named, str(tmp_path / "flame.npz")])
    assert load_model(tmp_path / "flame.npz").name == "flame"
    assert "6 vertices" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        flame.main([f"--model={tmp_path / 'no.pkl'}", *named[1:], f"--eyelids={tmp_path / 'no.pt'}", "out.npz"])
    message = capsys.readouterr().err
    for words in ("no.pkl does not exist", "flame.is.tue.mpg.de", "no.pt does not exist", "CC BY-NC"):
        assert words in message
