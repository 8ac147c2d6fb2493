"""FLAME's head model from each form in which it is given out or saved again; other files are called what they are."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from sheap_jax.morphable.flame_files import read_model
from tests.malicious import Payload
from tests.morphable import fake_flame

ARRAYS = fake_flame.flame_arrays()


def assert_read(path: Path, **options) -> None:
    read = read_model(path, any_size=True, **options)
    np.testing.assert_array_equal(read.template, ARRAYS["v_template"])
    np.testing.assert_array_equal(read.faces, ARRAYS["f"])
    np.testing.assert_array_equal(np.moveaxis(read.shapes, 0, -1), ARRAYS["shapedirs"])
    np.testing.assert_array_equal(np.moveaxis(read.pose, 0, -1), ARRAYS["posedirs"])
    np.testing.assert_array_equal(read.regressor, ARRAYS["J_regressor"])
    np.testing.assert_array_equal(read.weights, ARRAYS["weights"])
    assert read.parents == (-1, 0, 1, 1, 1)
    assert read.num_identity == 300


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("chumpy", [True, False])
def test_every_protocol_with_and_without_chumpy(tmp_path, protocol, chumpy):
    """2020: chumpy, protocol 2, old names. Saved again: any. Up to protocol 1 objects are rebuilt through copy_reg."""
    assert_read(fake_flame.write_model(tmp_path / "generic_model.pkl", ARRAYS, protocol=protocol, chumpy=chumpy))


@pytest.mark.parametrize(
    "regressor", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix, scipy.sparse.coo_matrix, np.asarray]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_every_form_of_the_joint_regressor(tmp_path, regressor, protocol):
    assert_read(fake_flame.write_model(tmp_path / "m.pkl", ARRAYS, protocol=protocol, regressor=regressor))


def test_2023_open_says_how_many_channels_are_expression(tmp_path):
    metadata = {"n_expr": 90, "expr_components": "last_90", "expr_source": "FLAME", "supr_gender": "neutral"}
    options = {"protocol": 5, "chumpy": False, "supr_expression_metadata": metadata}
    path = fake_flame.write_model(tmp_path / "flame2023_Open.pkl", ARRAYS, **options)
    assert read_model(path, any_size=True).num_identity == 310
    metadata["n_expr"] = 100
    assert_read(fake_flame.write_model(path, ARRAYS, **options))


def test_another_number_of_components_needs_the_split(tmp_path):
    short = ARRAYS | {"shapedirs": ARRAYS["shapedirs"][..., :150]}
    path = fake_flame.write_model(tmp_path / "m.pkl", short)
    with pytest.raises(ValueError, match=r"m\.pkl: shapedirs has 150 components .*--identity-channels"):
        read_model(path, any_size=True)
    assert read_model(path, any_size=True, num_identity=100).num_identity == 100
    with pytest.raises(ValueError, match="of 150 components 150 cannot be identity"):
        read_model(path, any_size=True, num_identity=150)


def test_npz_and_torch(tmp_path):
    """`np.savez(path, **model)`, with the sparse regressor as an object; SHeaP's generic_model.pt has other names."""
    np.savez(tmp_path / "dense.npz", **ARRAYS)
    assert_read(tmp_path / "dense.npz")
    np.savez(tmp_path / "objects.npz", **ARRAYS | {"v_template": ARRAYS["v_template"].astype(object)})
    assert_read(tmp_path / "objects.npz")
    sparse = np.array(scipy.sparse.csc_matrix(ARRAYS["J_regressor"]), dtype=object)
    np.savez(tmp_path / "model.pkl.npz", **ARRAYS | {"J_regressor": sparse})
    assert_read((tmp_path / "model.pkl.npz").rename(tmp_path / "model.pkl"))
    torch = pytest.importorskip("torch", reason="writes the .pt of SHeaP's convert_flame.py")
    tensors = {"faces": ARRAYS["f"].astype(np.int64), "kintree": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]])}
    tensors |= {key: ARRAYS[key] for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")}
    torch.save({key: torch.from_numpy(array) for key, array in tensors.items()}, tmp_path / "generic_model.pt")
    assert_read(tmp_path / "generic_model.pt")


@pytest.mark.parametrize(("joints", "name"), [(24, "SMPL"), (52, r"SMPL\+H"), (55, "SMPL-X"), (16, "MANO")])
def test_body_models_are_told(tmp_path, joints, name):
    body = ARRAYS | {"kintree_table": np.zeros((2, joints), int), "weights": np.zeros((6, joints))}
    np.savez(tmp_path / "body.npz", **body)
    with pytest.raises(
        ValueError, match=rf"body\.npz is {name}'s model, with {joints} joints instead of 5; expected FLAME"
    ):
        read_model(tmp_path / "body.npz")


def test_a_body_model_with_expressions_of_chumpy_is_told(tmp_path, monkeypatch):
    """SMPL's first files hold sums and transposes of chumpy, which are refused."""
    module = types.ModuleType("chumpy.ch_ops")
    module.add = type("add", (), {"__module__": "chumpy.ch_ops", "__qualname__": "add"})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch_ops", module)
    shaped = module.add()
    shaped.a, shaped._dirty_vars = np.zeros(3), {"a"}
    body = ARRAYS | {"kintree_table": np.zeros((2, 24), int), "v_shaped": shaped}
    for protocol in range(6):
        (tmp_path / "SMPL.pkl").write_bytes(pickle.dumps(body, protocol=protocol))
        with pytest.raises(
            ValueError, match=r"SMPL\.pkl was refused: it names chumpy\.ch_ops\.add.* It is SMPL's model"
        ):
            read_model(tmp_path / "SMPL.pkl")


def test_what_is_outlined_for_a_message_does_not_run(tmp_path):
    """Neither called, nor set, nor asked for anything."""
    evil = {"v_template": Payload(tmp_path / "executed"), "kintree_table": np.zeros((2, 55), int)}
    for protocol in range(6):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps(evil, protocol=protocol))
        with pytest.raises(ValueError, match=r"evil\.pkl was refused: it names .*\.exec.* It is SMPL-X's model"):
            read_model(tmp_path / "evil.pkl")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"lmk_face_idx": np.zeros(51, int), "lmk_b_coords": np.zeros((51, 3))}, "a landmark embedding of FLAME"),
        ({"static_lmk_faces_idx": 0}, r"landmark_embedding\.npy"),
        ({"face": np.zeros(3, int), "scalp": np.zeros(3, int)}, "FLAME's vertex regions"),
        ({"vt": np.zeros((4, 2)), "ft": np.zeros((2, 3), int)}, "a texture space of FLAME"),
        ({"template_vertex_positions": 0}, "GNM"),
        ({"format_version": 1, "joint_regressor": 0}, r"converted already \(give it as --config.morphable\)"),
        ({"a": 0, "b": 1}, "a table of a, b"),
        ([1, 2], r"a list of 2 \(int, int\)"),
        (np.zeros((4, 3, 2)), r"an array of shape \(4, 3, 2\) \(eyelid shapes\)"),
        (1.5, "a single float"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, words):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"other\.pkl is .*{words}.*; expected FLAME's head model") as error:
        read_model(tmp_path / "other.pkl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"posedirs": ARRAYS["posedirs"][..., :27]}, r"posedirs is \(6, 3, 27\), expected \(6, 3, 36\)"),
        ({"weights": ARRAYS["weights"][:5]}, r"weights is \(5, 5\), expected \(6, 5\)"),
        ({"f": ARRAYS["f"] + 1}, "a face names vertex 6, there are 6"),
        ({"kintree_table": np.array([[-1, 0, 3, 1, 1], [0, 1, 2, 3, 4]])}, "the parents of root, neck"),
        ({"shapedirs": np.full((6, 3, 400), np.nan)}, "shapedirs holds numbers that are not finite"),
        ({"shapedirs": np.array(["a"])}, "shapedirs holds no numbers"),
        ({"shapedirs": None}, "shapedirs holds no numbers but NoneType"),
        ({"v_template": np.float64(1)}, r"v_template has the shape \(\); it must be a table"),
        ({"f": np.zeros((0, 3), int)}, r"f has the shape \(0, 3\); it must be a table"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, words):
    path = fake_flame.write_model(tmp_path / "m.pkl", ARRAYS | change, chumpy=False)
    with pytest.raises(ValueError, match=rf"m\.pkl: {words}"):
        read_model(path, any_size=True)


def test_missing_arrays_are_named(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"v_template": ARRAYS["v_template"], "f": ARRAYS["f"]}))
    with pytest.raises(ValueError, match=r"m\.pkl is no whole FLAME model: it lacks shapedirs, posedirs"):
        read_model(tmp_path / "m.pkl")
