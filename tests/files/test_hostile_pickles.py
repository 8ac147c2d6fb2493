"""Pickles of allow-listed names alone that ask for what is not theirs: the reader refuses them, and lives on."""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheap_jax.files.safe_pickle import _ALLOWED
from tests.files import hostile_reader

ROOT = Path(__file__).parents[2]
LIMIT = 20.0  # seconds for one file
REAL = sorted((ROOT / "tests/morphable/chumpy_bytes").glob("*.pkl"))


class Reader:
    """The reading process; the next file gets a new one after a crash."""

    def __init__(self, folder: Path):
        self.folder, self.process = folder, None

    def read(self, content: bytes) -> list[str]:
        """["read", ""], ["refused", message], ["other", error] or ["died", exit code]."""
        path = self.folder / "hostile.pkl"
        path.write_bytes(content)
        if self.process is None:
            self._start()
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            self.close()
            return ["died", "it took too long"]
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.process = None
            return ["died", str(code)]
        return json.loads(line)

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
        command = [sys.executable, hostile_reader.__file__]
        self.process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout.readline() == "ready\n"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = Reader(tmp_path_factory.mktemp("hostile"))
    with contextlib.closing(reader):
        yield reader


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def whole(number: int) -> bytes:
    data = number.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data


def dtype(code: str, state: bytes = b"") -> bytes:
    return call(name("numpy", "dtype"), text(code), b"\x89", b"\x88") + (state + b"b" if state else b"")


EMPTY = call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\0\x85", b"C\1b")
BYTES = b"B" + struct.pack("<I", 16) + bytes(16)
REAL_ARRAY = call(name("numpy._core.numeric", "_frombuffer"), BYTES, dtype("f8"), b"K\2\x85", text("C"))
OBJECTS_IN_BYTES = b"(K\3" + text("|") + b"NNNK\x08K\1K\x3ft"
DEEP = 400_000  # Python crashes from 200,000 on
FLOATS = name("torch", "FloatStorage")

CRASHES = {
    "a key of nested tuples": b"}" + b")" + b"\x85" * DEEP + b"K\1s.",
    "a set of nested tuples": b"(" + b")" + b"\x85" * DEEP + b"\x91.",
    "an ordered dict with such a key": call(
        name("collections", "OrderedDict"), b"](](" + b")" + b"\x85" * DEEP + b"K\1ee"
    )
    + b".",
    "pointers as the bytes of objects": EMPTY + b"(K\1K\2\x85" + dtype("O8") + b"\x89" + BYTES + b"tb.",
    "the state of an array that exists": REAL_ARRAY + b"(K\1K\2\x85" + FLOATS + b"\x89" + BYTES + b"tb.",
    "the state of torch's number": name("torch", "BFloat16Storage") + OBJECTS_IN_BYTES + b"b.",
    "the defaults of a function": name("builtins", "set") + b"N}" + text("__defaults__") + b")sb.",
    "objects by the state of a number": EMPTY
    + b"(K\1K\1\x85"
    + dtype("f8", OBJECTS_IN_BYTES)
    + b"\x89C\x08AAAAAAAAtb.",
    "an offset of 2^40": name("numpy", "dtype")
    + b"("
    + text("V16")
    + b"\x89\x88tR(K\3"
    + text("|")
    + b"N("
    + text("a")
    + b"t}"
    + text("a")
    + dtype("O8")
    + whole(2**40)
    + b"\x86sK\x10K\1K\x10tb.",
    "a table of 64 GiB": b"Nr\xff\xff\xff\xff.",
    "bytes of 64 GiB": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"abc.",
    "changeable bytes of 64 GiB": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"abc.",
    "a frame of 64 GiB": b"\x80\x04\x95" + struct.pack("<Q", 2**36) + b"abc.",
    "lists in lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "a list of itself": b"]q\0h\0a.",
    "one text as bytes, over and over": b"("
    + text("a" * 2**20)
    + b"q\0"
    + call(name("_codecs", "encode"), b"h\0", text("latin1")) * 10_000
    + b"l.",
    "sparse, of 2^40 rows": name("scipy.sparse", "coo").replace(b"sparse\ncoo", b"sparse._coo\ncoo_matrix")
    + b")\x81}("
    + text("_shape")
    + whole(2**31)
    + whole(2**31)
    + b"\x86"
    + b"".join(text(key) + REAL_ARRAY for key in ("row", "col", "data"))
    + b"ub.",
    "an old storage of 2^60 numbers": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.M\xe9\3.}.("
    + text("storage")
    + FLOATS
    + text("0")
    + text("cpu")
    + whole(2**60)
    + b"NtQ.]"
    + text("0")
    + b"a."
    + struct.pack("<q", 2**60),
}


@pytest.mark.parametrize("case", CRASHES)
def test_what_crashed_or_filled_memory_is_answered(reader, case):
    answer, words = reader.read(CRASHES[case])
    assert answer in ("read", "refused"), f"{answer} {words}"
    assert "\n" not in words
    if answer == "refused":
        assert "hostile.pkl" in words


def test_lists_that_double_are_read_in_no_time(reader):
    program = b"]q\0" + b"".join(b"](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(40)) + b"."
    assert reader.read(program)[0] == "read"


def test_a_tensor_that_repeats_one_number_has_a_limit(reader, tmp_path):
    """Strides of zero are torch's `expand`: four bytes that could be any number of them."""
    identifier = b"(" + text("storage") + FLOATS + text("0") + text("cpu") + b"K\1tQ"
    sizes = {"read": whole(1000), "refused": whole(2**40)}
    for expected, size in sizes.items():
        program = (
            call(name("torch._utils", "_rebuild_tensor_v2"), identifier, b"K\0", size + b"\x85", b"K\0\x85") + b"."
        )
        with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
            archive.writestr("t/data.pkl", program)
            archive.writestr("t/data/0", np.float32(1.5).tobytes())
        assert reader.read((tmp_path / "t.pt").read_bytes())[0] == expected


NAMES = st.sampled_from(sorted(_ALLOWED)).map(lambda key: name(*key))
NUMBERS = st.one_of(
    st.integers(-2, 4), st.sampled_from([255, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 2**70 - 1, -(2**63)])
).map(whole)
CODES = st.sampled_from(["f8", "i4", "O8", "U4", "S0", "U99999999", "V8", "b1", "c16", "M8", "f8,f8", "", "|O"])
TEXTS = st.sampled_from(["<", "|", ">", "C", "F", "K", "x", "a", "idxs", "preferred_shape", "storage", "latin1"])
TEXTS = st.one_of(TEXTS, st.sampled_from(["data", "indices", "indptr", "_shape", "row", "col", "coords", "0"])).map(
    text
)
RAW = st.binary(max_size=40).map(lambda data: b"B" + struct.pack("<I", len(data)) + data)
PLAIN = st.one_of(
    NUMBERS, TEXTS, RAW, NAMES, st.sampled_from([b"N", b"\x88", b"\x89", b")", b"]", b"}", b"h\0", EMPTY])
)


def containers(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Everything that a pickle can do with values."""
    several = st.lists(values, max_size=6).map(b"".join)
    pairs = st.lists(st.tuples(values, values).map(b"".join), max_size=4).map(b"".join)
    dtypes = st.one_of(
        CODES.map(dtype), st.tuples(CODES, several).map(lambda parts: dtype(parts[0], b"(K\3" + parts[1] + b"t"))
    )
    arrays = st.tuples(several, dtypes, values).map(
        lambda parts: EMPTY + b"(K\1(" + parts[0] + b"t" + parts[1] + b"\x89" + parts[2] + b"tb"
    )
    calls = st.tuples(NAMES, several).map(lambda parts: call(*parts))
    states = st.tuples(st.one_of(values, NAMES.map(lambda kind: kind + b")\x81")), values).map(
        lambda parts: b"".join(parts) + b"b"
    )
    tables = st.tuples(NAMES, pairs).map(lambda parts: parts[0] + b")\x81}(" + parts[1] + b"ub")
    simple = [several.map(lambda v: b"(" + v + b"t"), several.map(lambda v: b"(" + v + b"l")]
    simple += [
        pairs.map(lambda v: b"}(" + v + b"u"),
        values.map(lambda v: v + b"Q"),
        several.map(lambda v: b"(" + v + b"\x91"),
    ]
    items = st.tuples(values, several).map(lambda parts: parts[0] + b"(" + parts[1] + b"e")
    return st.one_of(*simple, dtypes, arrays, calls, states, tables, items)


PROGRAMS = st.recursive(PLAIN, containers, max_leaves=25).map(lambda program: b"Nq\x000" + program + b".")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=PROGRAMS)
def test_no_program_of_allowed_names_ends_the_reader(reader, program):
    answer, words = reader.read(program)
    assert answer in ("read", "refused"), f"{answer} {words}"
    assert "\n" not in words


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    file=st.sampled_from(REAL),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=5),
    share=st.floats(0.5, 1),
)
def test_no_change_of_a_real_file_ends_the_reader(reader, file, changes, share):
    data = bytearray(file.read_bytes())
    for place, content in changes:
        start = int(place * len(data))
        data[start : start + len(content)] = content
    answer, words = reader.read(bytes(data[: int(share * len(data)) + 1]))
    assert answer in ("read", "refused"), f"{answer} {words}"
    assert "\n" not in words
