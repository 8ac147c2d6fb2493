"""What a file states is compared with what it holds before memory is taken; only files are opened."""

import json
import struct
import zipfile

import numpy as np
import pytest

from sheap_jax.files import archives
from sheap_jax.files.array_files import load_any, load_npy, load_pickle, read_npy, read_npz
from sheap_jax.files.json_files import parse_json, read_json
from sheap_jax.files.mesh_files import read_landmarks7, read_mesh
from sheap_jax.files.regular import open_regular, read_whole
from sheap_jax.files.safetensors_files import read_safetensors
from sheap_jax.files.tables import read_table
from sheap_jax.files.torch_files import load_torch
from tests.files.odd_files import npy_header, write_npz_that_asks, write_npz_that_swells, write_pipe

READERS = {
    "any": load_any,
    "pickle": load_pickle,
    "npy": read_npy,
    "npy of objects": load_npy,
    "npz": read_npz,
    "torch": load_torch,
    "safetensors": read_safetensors,
    "json": read_json,
    "table": lambda path: list(read_table(path, columns=["a"])),
    "mesh": read_mesh,
    "landmarks": read_landmarks7,
}


@pytest.fixture
def shut_memory(monkeypatch):
    """NumPy may not make anything large."""
    for name in ("empty", "zeros"):
        make = getattr(np, name)

        def bounded(shape, *arguments, make=make, **options):
            assert np.prod(shape, dtype=float) < 2**24, f"asks for {shape}"
            return make(shape, *arguments, **options)

        monkeypatch.setattr(np, name, bounded)


@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices_are_refused_at_once(tmp_path, name):
    suffix = {"mesh": ".obj", "landmarks": ".txt"}.get(name, "")
    for path in (write_pipe(tmp_path / f"pipe{suffix}"), "/dev/zero"):
        if path == "/dev/zero" and suffix:
            continue
        with pytest.raises(ValueError, match=r"(pipe|zero).* is a pipe or a device: name a file"):
            READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_is_called_one(tmp_path, name):
    with pytest.raises((ValueError, IsADirectoryError), match=r"[Dd]irectory|is a folder|\.obj and \.ply"):
        READERS[name](tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"PK\3\4 half", b"\x93NUMPY", b"[" * 100_000, b"\x80\x04\x95\xff"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_broken_is_one_line_with_the_name(tmp_path, name, content):
    path = tmp_path / {"mesh": "odd.ply", "landmarks": "odd.pp"}.get(name, "odd.bin")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.") as error:
        READERS[name](path)
    assert "\n" not in str(error.value)


def test_headers_that_ask_for_more_than_follows(tmp_path, shut_memory):
    path = write_npz_that_asks(tmp_path / "ask.npz", "a", "b")
    assert path.stat().st_size < 1024
    for read in (read_npz, load_any):
        with pytest.raises(ValueError, match=r"ask\.npz .*an array \(4294967296,\) of float64 in 100 bytes"):
            read(path)
    for shape in ((2**33,), (-1, -8), (2**62, 8)):
        (tmp_path / "a.npy").write_bytes(npy_header(shape) + bytes(64))
        for read in (read_npy, load_npy, load_any):
            with pytest.raises(ValueError, match=r"a\.npy .*in 64 bytes"):
                read(tmp_path / "a.npy")


def test_archives_that_swell_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = write_npz_that_swells(tmp_path / "zeros.npz", 2**22)
    assert read_npz(path)["a"].shape == (2**19,)
    monkeypatch.setattr(archives, "_SPARE", 2**20)
    for read in (read_npz, load_any, load_torch):
        with pytest.raises(ValueError, match=r"zeros\.npz .*its 1 entries would unpack from \d+ bytes to 4194432"):
            read(path)


def test_an_entry_that_is_shorter_than_it_states(tmp_path):
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy_header((4,)) + bytes(32))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 160), struct.pack("<I", 2**30)))  # its sizes
    with pytest.raises(ValueError, match=r"short\.npz is damaged or no \.npz"):
        read_npz(path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.array(["a", "beta"]),
        np.array(2.5),
        np.array(""),
        np.zeros((0, 3), np.uint8),
        np.array([True, False]),
        np.arange(3, dtype=">f4"),
    ],
)
def test_plain_arrays_come_as_numpy_reads_them(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array, other=array)
    for found in (read_npy(tmp_path / "a.npy"), read_npz(tmp_path / "a.npz", ["a", "absent"])["a"]):
        expected = np.load(tmp_path / "a.npy")
        assert found.dtype == expected.dtype
        assert found.flags.writeable
        np.testing.assert_array_equal(found, expected)
    assert list(read_npz(tmp_path / "a.npz", ["a", "absent"])) == ["a"]


@pytest.mark.parametrize("array", [np.array([{"a": 1}], object), np.zeros(2, "f4,i4"), np.zeros(2, "M8[s]")])
def test_arrays_that_are_not_plain_are_refused(tmp_path, array):
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(ValueError, match=r"a\.npz is damaged or no model \(.*\): make it again"):
        read_npz(tmp_path / "a.npz", kind="model", way_out="make it again")


def test_json_that_is_deep_or_large(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 200_000)
    (tmp_path / "a.json").write_text(json.dumps([1]))
    assert read_json(tmp_path / "a.json") == [1]
    monkeypatch.setattr("sheap_jax.files.json_files.MOST_BYTES", 2)
    with pytest.raises(ValueError, match=r"a\.json has 3 bytes, at most 2"):
        read_json(tmp_path / "a.json")


def test_a_mesh_that_states_more_vertices_than_bytes(tmp_path, shut_memory):
    for count in ("99999999999", "-1", "x"):
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\nproperty float x\nend_header\n"
        (tmp_path / "a.ply").write_text(header)
        with pytest.raises(ValueError, match=r"a\.ply cannot be read"):
            read_mesh(tmp_path / "a.ply")


def test_points_with_entities_are_refused(tmp_path):
    text = '<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><PickedPoints>&b;</PickedPoints>'
    (tmp_path / "a.pp").write_text(text)
    with pytest.raises(ValueError, match=r"a\.pp cannot be read .*entities"):
        read_landmarks7(tmp_path / "a.pp")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "X", "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_tensors_that_do_not_lie_in_their_file(tmp_path, entry):
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ValueError, match=r"a\.safetensors is no whole \.safetensors"):
        read_safetensors(path)


def test_one_tensor_under_many_names_is_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({str(number): entry for number in range(100)}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ValueError, match="more bytes than it holds"):
        read_safetensors(path)


def test_whole_files_up_to_a_size(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_whole(tmp_path / "a", most=3) == b"abc"
    with pytest.raises(ValueError, match="a has 3 bytes, at most 2"):
        read_whole(tmp_path / "a", most=2)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"abc"
