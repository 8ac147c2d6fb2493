"""What a pickle may name, and that nothing else of it runs."""

import pickle
import zipfile

import numpy as np
import pytest

from sheap_jax.files.array_files import load_npy, load_pickle
from sheap_jax.files.safe_pickle import UnsafePickleError
from sheap_jax.files.torch_files import load_torch
from tests.malicious import Payload
from tests.morphable import fake_flame

BYTES_OF_TWO = b"C\x10" + np.array([1.0, 2.0]).tobytes()
FLOAT64 = b"cnumpy\ndtype\n(X\x02\0\0\0f8K\0K\1tR"
EMPTY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\1btR"
OBJECT = b"cnumpy\ndtype\n(X\x02\0\0\0O8K\0K\1tR"


def test_arrays_pickled_by_python_2(tmp_path):
    """Python 2, which wrote FLAME's files, has byte strings where Python 3 has `_codecs.encode`."""
    data = np.array([1.5, -2.0]).tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    (tmp_path / "p2.pkl").write_bytes(
        b"\x80\x02" + empty + b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb."
    )
    np.testing.assert_array_equal(load_pickle(tmp_path / "p2.pkl"), [1.5, -2.0])


@pytest.mark.parametrize("core", ["core", "_core"])
def test_protocol_5_under_the_names_of_numpy_1_and_2(tmp_path, core):
    arrays = {"rows": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.arange(6).reshape(2, 3))}
    arrays["turned"] = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)
    data = pickle.dumps(arrays, protocol=5)
    assert b"_frombuffer" in data
    if core == "core":  # the opcode before a short text holds its length
        data = data.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
        start = data.index(b"\x95") + 1
        length = int.from_bytes(data[start : start + 8], "little") - 1
        data = data[:start] + length.to_bytes(8, "little") + data[start + 8 :]
    (tmp_path / "p5.pkl").write_bytes(data)
    content = load_pickle(tmp_path / "p5.pkl")
    for key, array in arrays.items():
        np.testing.assert_array_equal(content[key], array)


def test_malicious_files_are_refused_and_not_run(tmp_path):
    target = tmp_path / "executed"
    evil = Payload(target)
    for protocol in range(6):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": evil}, protocol=protocol))
        with pytest.raises(UnsafePickleError, match=r"evil\.pkl was refused: it names (builtins|__builtin__)\.exec"):
            load_pickle(tmp_path / "evil.pkl")
    np.save(tmp_path / "evil.npy", np.array({"full_lmk_faces_idx": evil}, dtype=object), allow_pickle=True)
    with pytest.raises(UnsafePickleError, match=r"evil\.npy was refused"):
        load_npy(tmp_path / "evil.npy")
    nested = pickle.dumps(evil)  # where torch's old format would have its magic number
    program = b"\x80\x02ctorch.storage\n_load_from_bytes\nB" + len(nested).to_bytes(4, "little") + nested + b"\x85R."
    (tmp_path / "nested.pkl").write_bytes(program)
    with pytest.raises(UnsafePickleError, match=r"builtins\.exec"):
        load_pickle(tmp_path / "nested.pkl")
    assert not target.exists()
    pickle.loads(pickle.dumps(evil))
    assert target.exists()  # the payload would have worked


def test_what_sets_selections_and_buffers_hold_does_not_run(tmp_path):
    """Wherever FLAME's files hold something, a payload in its place is refused before it is called."""
    target = tmp_path / "executed"
    evil = pickle.dumps(Payload(target), protocol=2)[2:-1]  # without protocol and end
    leaf = b"cchumpy.ch\nCh\n)\x81}"
    places = {
        "set": b"c__builtin__\nset\n(]" + evil + b"atR.",
        "set in a leaf": leaf + b"X\x0b\0\0\0_dirty_varscbuiltins\nset\n(]" + evil + b"atRsb.",
        "value of a leaf": leaf + b"X\x01\0\0\0x" + evil + b"sb.",
        "source of a selection": b"cchumpy.reordering\nSelect\n)\x81}X\x01\0\0\0a" + evil + b"sb.",
        "buffer": b"cnumpy._core.numeric\n_frombuffer\n(" + evil + FLOAT64 + b"K\x02\x85X\1\0\0\0CtR.",
        "type of a buffer": b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES_OF_TWO + evil + b"K\x02\x85X\1\0\0\0CtR.",
        "frozen set, protocol 4": b"\x80\x04(" + evil + b"\x91.",
    }
    for place, program in places.items():
        path = tmp_path / "place.pkl"
        path.write_bytes(program)
        with pytest.raises(UnsafePickleError, match=r"place\.pkl was refused: it names (builtins|__builtin__)\.exec"):
            load_pickle(path)
        assert not target.exists(), place


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\ngetattr\n(S'a'\nS'b'\ntR.",
        b"cbuiltins\nfrozenset\n)R.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy._core.numeric\nfromfile\n(S'x'\ntR.",
        b"cnumpy.core.numeric\n_frombuffer.__globals__\n.",
        b"\x80\x04\x8c\x13numpy._core.numeric\x8c\x17_frombuffer.__globals__\x93.",  # a dotted name
        b"cchumpy.ch\nChLambda\n)\x81.",
        b"cchumpy.reordering\nCh\n)\x81.",
        b"cscipy.sparse\ncsc_matrix\n)\x81.",
        b"ccopyreg\n_reconstructor\n(ccollections\nOrderedDict\ncbuiltins\nobject\nNtR.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
        b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",
    ],
)
def test_names_outside_the_allow_list_are_refused(tmp_path, program):
    (tmp_path / "p.pkl").write_bytes(program)
    with pytest.raises(UnsafePickleError, match=r"p\.pkl was refused"):
        load_pickle(tmp_path / "p.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\nset\n(](K\x01K\x02etR.",  # numbers are no names of attributes
        b"cbuiltins\nset\n(]cchumpy.ch\nCh\n)\x81atR.",
        b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES_OF_TWO + OBJECT + b"K\x02\x85X\1\0\0\0CtR.",
        b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES_OF_TWO + FLOAT64 + b"K\x03\x85X\1\0\0\0CtR.",
        b"cnumpy._core.numeric\n_frombuffer\n(]" + FLOAT64 + b"K\x00\x85X\1\0\0\0CtR.",
        b"cchumpy.reordering\nSelect\n)\x81}(X\1\0\0\0acnumpy._core.numeric\n_frombuffer\n("
        + BYTES_OF_TWO
        + FLOAT64
        + b"K\x02\x85X\1\0\0\0CtRX\4\0\0\0idxs](K\x05eX\x0f\0\0\0preferred_shapeK\x01\x85ub.",  # no entry 5
        EMPTY + b"(K\1K\2\x85" + OBJECT + b"\x89" + BYTES_OF_TWO + b"tb.",  # addresses of objects
        EMPTY + b"(K\1K\3\x85" + FLOAT64 + b"\x89" + BYTES_OF_TWO + b"tb.",  # fewer bytes than entries
        EMPTY + b"(K\1K\2\x85cnumpy\ndtype\n(X\3\0\0\0V16K\0K\1tR\x89" + BYTES_OF_TWO + b"tb.",  # a structure
        b"\x80\x05\x97.",  # a buffer that would have to come from elsewhere
    ],
)
def test_misused_constructors_give_an_error_with_the_file(tmp_path, program):
    (tmp_path / "p.pkl").write_bytes(program)
    with pytest.raises(UnsafePickleError, match=r"p\.pkl cannot be read"):
        load_pickle(tmp_path / "p.pkl")


def test_the_same_constructors_used_well(tmp_path):
    """So that the programs above are refused for what is wrong in them, and not as broken pickles."""
    path = tmp_path / "p.pkl"
    path.write_bytes(b"cbuiltins\nset\n(]X\1\0\0\0xatR.")
    assert load_pickle(path) == {"x"}
    path.write_bytes(EMPTY + b"(K\1K\2\x85" + FLOAT64 + b"\x89" + BYTES_OF_TWO + b"tb.")
    np.testing.assert_array_equal(load_pickle(path), [1, 2])
    path.write_bytes(b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES_OF_TWO + FLOAT64 + b"K\x02\x85X\1\0\0\0CtR.")
    np.testing.assert_array_equal(load_pickle(path), [1, 2])
    path.write_bytes(
        b"cchumpy.reordering\nSelect\n)\x81}(X\1\0\0\0acnumpy._core.numeric\n_frombuffer\n("
        + BYTES_OF_TWO
        + FLOAT64
        + b"K\x02\x85X\1\0\0\0CtRX\4\0\0\0idxs](K\x01eX\x0f\0\0\0preferred_shapeK\x01\x85ub."
    )
    np.testing.assert_array_equal(load_pickle(path), [2])


def test_a_selection_of_itself_is_refused(tmp_path):
    (tmp_path / "p.pkl").write_bytes(b"cchumpy.reordering\nSelect\n)\x81q\0}X\1\0\0\0ah\0sb.")
    with pytest.raises(UnsafePickleError, match=r"p\.pkl cannot be read"):
        load_pickle(tmp_path / "p.pkl")


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path):
    offsets = np.zeros((6, 3, 2), np.float32)
    path = fake_flame.write_eyelids(tmp_path / "eyelids.pt", offsets)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "mixed.pt", "w") as mixed:
        mixed.writestr("e/data.pkl", good.read("eyelids/data.pkl"))
        mixed.writestr("e/data/0", np.zeros(30, np.float32).tobytes())
    with pytest.raises(UnsafePickleError, match="beyond its storage"):
        load_torch(tmp_path / "mixed.pt")
