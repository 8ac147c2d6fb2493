"""A file is read by what is in it, whatever its name; one that holds no arrays is called what it is."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse

from sheap_jax.files.array_files import load_any, load_npy, load_pickle
from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.safe_pickle import UnsafePickleError
from sheap_jax.files.torch_files import load_torch
from tests.malicious import Payload
from tests.morphable import fake_flame

ARRAY = np.arange(6.0).reshape(2, 3)


def test_kinds_are_told_by_content(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": ARRAY}, protocol=0))
    np.testing.assert_array_equal(load_any(path)["a"], ARRAY)
    with open(path, "wb") as stream:
        np.savez(stream, a=ARRAY)
    np.testing.assert_array_equal(load_any(path)["a"], ARRAY)
    with open(path, "wb") as stream:
        np.save(stream, ARRAY)
    np.testing.assert_array_equal(load_any(path), ARRAY)
    offsets = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    np.testing.assert_array_equal(load_any(fake_flame.write_eyelids(path, offsets)), offsets)
    with fake_flame.fake_packages():
        path.write_bytes(fake_flame.storage_bytes(np.arange(3, dtype=np.float32)))  # torch's format before 1.6
    np.testing.assert_array_equal(load_any(path).data, [0, 1, 2])


def test_objects_in_npz_are_read_with_the_allow_list(tmp_path):
    """`np.savez(path, **model)` pickles what is no array, such as the sparse regressor."""
    np.savez(tmp_path / "m.npz", a=ARRAY, sparse=np.array(scipy.sparse.csc_matrix(ARRAY), dtype=object), text="lbs")
    content = load_any(tmp_path / "m.npz")
    np.testing.assert_array_equal(content["sparse"], ARRAY)
    np.savez(tmp_path / "evil.npz", a=np.array(Payload(tmp_path / "executed"), dtype=object))
    with pytest.raises(UnsafePickleError, match=r"evil\.npz was refused.*builtins\.exec"):
        load_any(tmp_path / "evil.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "a web page"),
        (b"<HTML>", "a web page"),
        (b'{"error": "Not Found"}', "a JSON document"),
        (b"%PDF-1.5 ...", "a PDF document"),
        (gzip.compress(b"a", mtime=0), "a gzip archive"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
        (b"# Blender\nv 1 2 3\n", "an OBJ mesh"),
        (b"ply\nformat ascii 1.0\n", "a PLY mesh"),
        (b"hello\n", "a text file, which starts with 'hello'"),
    ],
)
@pytest.mark.parametrize("load", [load_any, load_pickle, load_npy, load_torch])
def test_other_files_are_called_what_they_are(tmp_path, content, kind, load):
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(UnsafePickleError) as error:
        load(tmp_path / "model.pkl")
    assert f"model.pkl is {kind}" in str(error.value)
    assert "\n" not in str(error.value)


def test_archives_name_what_is_in_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "FLAME2023Open.zip", "w") as archive:
        archive.writestr("flame2023_Open.pkl", b"")
        archive.writestr("Readme.pdf", b"")
    with pytest.raises(UnsafePickleError, match=r"a zip archive of flame2023_Open\.pkl, Readme\.pdf: unpack it"):
        load_any(tmp_path / "FLAME2023Open.zip")


def test_files_that_are_cut_short_are_named(tmp_path):
    """No guess about why: the way out is to fetch it again."""
    whole = {"a.pkl": pickle.dumps({"a": ARRAY}, protocol=2), "a.npz": b"", "a.npy": b""}
    np.savez(tmp_path / "a.npz", a=ARRAY)
    np.save(tmp_path / "a.npy", np.array({"a": ARRAY}, dtype=object), allow_pickle=True)
    for name, data in whole.items():
        data = data or (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-30])
        assert foreign_kind(tmp_path / name) is None
        with pytest.raises(UnsafePickleError, match=rf"{name} cannot be read .*fetch it again"):
            load_any(tmp_path / name)


def test_missing_files_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pkl"):
        load_any(tmp_path / "absent.pkl")
