"""Pickles of the real chumpy and SciPy, kept in morphable/chumpy_bytes (its make.py says how they were made)."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from sheap_jax.files.array_files import load_pickle
from sheap_jax.files.safe_pickle import Unpickler, UnsafePickleError
from tests.morphable import fake_flame

REAL = sorted((Path(__file__).parents[1] / "morphable/chumpy_bytes").glob("*.pkl"))
SPARSE = np.array([[0, 0.5, 0, 0], [0.25, 0, 0, 0.75], [0, 0, 0, 1.0]])


def test_every_protocol_is_there():
    """FLAME 2020 was written by Python 2, which knows protocols 0 to 2."""
    names = {path.stem for path in REAL}
    assert names == {f"python27_protocol{p}" for p in range(3)} | {f"python38_protocol{p}" for p in range(6)}


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_pickles_are_their_arrays(path):
    content = load_pickle(path)
    whole = np.arange(24.0).reshape(2, 3, 4)
    expected = {
        "leaf": np.arange(12.0).reshape(4, 3) / 8,
        "evaluated": np.arange(6.0).reshape(2, 3),
        "selection": whole[:, :, 1:3],
        "selection_of_selection": whole[1, :, 1:3],
        "csc": SPARSE,
        "csr": SPARSE,
        "coo": SPARSE,
        "columns": np.arange(6.0).reshape(2, 3),
        "kintree_table": np.array([[2**32 - 1, 0], [0, 1]]),
    }
    assert set(content) == set(expected) | {"bs_type"}
    for key, array in expected.items():
        assert isinstance(content[key], np.ndarray)
        np.testing.assert_array_equal(content[key], array)


@pytest.mark.parametrize("kind", [scipy.sparse.csc_matrix, scipy.sparse.csr_array, scipy.sparse.coo_array])
def test_todays_scipy(tmp_path, kind):
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(kind(SPARSE)))
    np.testing.assert_array_equal(load_pickle(tmp_path / "s.pkl"), SPARSE)


def test_entries_of_a_sparse_matrix_add_up(tmp_path):
    matrix = scipy.sparse.coo_matrix(([1.0, 2.0, 4.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 3))
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(matrix))
    np.testing.assert_array_equal(load_pickle(tmp_path / "s.pkl"), [[0, 3, 0], [4, 0, 0]])


def test_a_sparse_matrix_that_counts_wrong_is_refused(tmp_path):
    matrix = scipy.sparse.csc_matrix(SPARSE)
    matrix.indptr = np.array([0, 1, 1, 10**12, 10**12])  # would ask for terabytes
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(matrix))
    with pytest.raises(UnsafePickleError, match=r"s\.pkl cannot be read .*indptr"):
        load_pickle(tmp_path / "s.pkl")


def test_our_fake_of_chumpy_has_the_real_state():
    path = next(path for path in REAL if path.stem == "python27_protocol2")
    with open(path, "rb") as stream:
        real = Unpickler(stream).load()["leaf"].state
    fake = fake_flame.Ch(real["x"]).__getstate__()
    assert set(fake) == set(real)
    plain = {key: getattr(value, "names", value) for key, value in real.items() if key != "x"}
    assert {key: fake[key] for key in fake if key != "x"} == plain


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numpy_in_every_form(tmp_path, protocol):
    arrays = {
        "big": np.arange(6.0).reshape(2, 3).astype(">f4"),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "part": np.arange(24).reshape(4, 6)[::2, 1::2],
        "turned": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        "truths": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "text": np.array(["a", "beta"]),
        "bytes": np.array([b"a", b"beta"]),
        "none": np.zeros((0, 3), np.uint8),
        "point": np.array(2.5),
    }
    content = arrays | {
        "scalar": np.float32(1.5),
        "half": np.float16([1, 2]),
        "list": np.array([None, {"a": 1}], object),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content | {"kind": np.dtype("<i4")}, protocol=protocol))
    read = load_pickle(tmp_path / "a.pkl")
    for key, array in content.items():
        np.testing.assert_array_equal(read[key], array)
        assert read[key].dtype == array.dtype, key
    assert read["kind"] == np.dtype("<i4")
    read["part"][0, 0] = 7  # not a view of the file
