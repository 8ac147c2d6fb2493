"""Every model survives the file; a bad file is named together with what is wrong in it."""

import dataclasses

import jax
import numpy as np
import pytest

from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.storage import load_model, save_model


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "head.npz"
    save_model(embedded_head(), path)
    return path


def _rewritten(stored, tmp_path, change):
    with np.load(stored) as file:
        arrays = dict(file)
    change(arrays)
    path = tmp_path / "changed.npz"
    np.savez(path, **arrays)
    return path


def test_round_trip_keeps_everything(stored):
    original, loaded = embedded_head(), load_model(stored)
    assert jax.tree.structure(original) == jax.tree.structure(loaded)
    for first, second in zip(jax.tree.leaves(original), jax.tree.leaves(loaded), strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    assert loaded.parents == original.parents
    assert loaded.expression_names == original.expression_names


def test_no_pickle_is_written(stored):
    with np.load(stored, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)


def test_saving_leaves_no_partial_file(tmp_path):
    save_model(embedded_head(), tmp_path / "a.npz")
    save_model(dataclasses.replace(embedded_head(), name="other"), tmp_path / "a.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert load_model(tmp_path / "a.npz").name == "other"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_model(tmp_path / "absent.npz")


@pytest.mark.parametrize("key", ["template", "skinning_weights", "parents", "name"])
def test_missing_key_is_named(stored, tmp_path, key):
    path = _rewritten(stored, tmp_path, lambda arrays: arrays.pop(key))
    with pytest.raises(ValueError, match=rf"changed\.npz lacks {key}"):
        load_model(path)


def test_wrong_size_is_named(stored, tmp_path):
    path = _rewritten(stored, tmp_path, lambda a: a.update(skinning_weights=a["skinning_weights"][:-1]))
    with pytest.raises(ValueError, match=r"changed\.npz: skinning_weights has shape"):
        load_model(path)


def test_truncated_file_is_named(stored, tmp_path):
    path = tmp_path / "short.npz"
    path.write_bytes(stored.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"short\.npz is damaged"):
        load_model(path)


def test_other_npz_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz is no morphable model"):
        load_model(tmp_path / "other.npz")


def test_how_joints_are_regressed_is_kept(tmp_path):
    save_model(embedded_head().replace(joints_follow_expression=True), tmp_path / "flame.npz")
    assert load_model(tmp_path / "flame.npz").joints_follow_expression


def test_files_of_the_first_format(stored, tmp_path):
    """They did not say whether joints follow the expression: of FLAME's they do, which its files got wrong."""

    def older(name):
        def change(arrays):
            arrays.pop("joints_follow_expression")
            arrays.update(format_version=np.array(1), name=np.array(name))

        return _rewritten(stored, tmp_path, change)

    loaded = load_model(older("ict"))
    assert not loaded.joints_follow_expression
    np.testing.assert_array_equal(loaded.template, embedded_head().template)
    with pytest.raises(ValueError, match=r"changed\.npz was converted before .*: .* with sheap convert flame"):
        load_model(older("flame"))


def test_a_model_without_texture_coordinates(tmp_path):
    head = embedded_head()
    save_model(head.replace(uv=head.uv[:0], uv_faces=head.uv_faces[:0]), tmp_path / "a.npz")
    assert load_model(tmp_path / "a.npz").uv.shape == (0, 2)
    save_model(head.replace(uv_faces=head.uv_faces[:0]), tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"b\.npz: uv_faces has shape"):
        load_model(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": np.array([2, 2])}, "is no morphable model"),
        ({"format_version": np.array("2")}, "is no morphable model"),
        ({"parents": np.array("root")}, r"parents has shape \(\) of <U4, expected \[j\] of whole numbers"),
        ({"joint_names": np.arange(3)}, "joint_names has shape"),
        ({"template": np.zeros(3)}, r"template has shape \(3,\)"),
        ({"faces": np.full((4, 3), 10**6)}, "faces names what is not among"),
        ({"landmark_faces": np.full(68, -1)}, "landmark_faces names what is not among"),
        ({"region/face": np.array("all")}, "region/face has shape"),
        ({"colour": np.zeros(3)}, "holds colour, which no model has"),
    ],
)
def test_arrays_of_another_kind_are_named(stored, tmp_path, changes, words):
    path = _rewritten(stored, tmp_path, lambda arrays: arrays.update(changes))
    with pytest.raises(ValueError, match=rf"changed\.npz.* {words}.*convert the model again"):
        load_model(path)
