"""Files in exactly FLAME's formats with an octahedron for a head, and fake packages to write them with.

chumpy and torch are not needed for that: a pickle holds names and arguments, so that stand-ins registered under the
real names for the time of writing give the same bytes. chumpy_bytes/ has bytes of the real chumpy to compare with.
"""

import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import scipy.sparse

VERTICES = 6
TEMPLATE = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float) * 0.1
FACES = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], dtype=np.uint32
)
_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Ch:
    """A chumpy leaf, pickled as chumpy 0.70 does it (compare chumpy_bytes/): the data in x, beside bookkeeping."""

    def __init__(self, x):
        self.x = np.asarray(x)

    def __getstate__(self):
        bookkeeping = {"_make_sparse": False, "_dirty_vars": {"x"}, "_itr": None, "_depends_on_deps": {}}
        return bookkeeping | {"_make_dense": False, "x": self.x}


class Tensor:
    """A torch tensor as pickle sees it: a view with strides of a storage in torch's old format."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __reduce__(self):
        torch_utils, torch_storage = sys.modules["torch._utils"], sys.modules["torch.storage"]
        flat, strides = self.array.ravel(), tuple(s // self.array.itemsize for s in self.array.strides)
        storage = _Reduced(torch_storage._load_from_bytes, (storage_bytes(flat),))
        return torch_utils._rebuild_tensor_v2, (storage, 0, self.array.shape, strides, False, OrderedDict())


class _Reduced:
    def __init__(self, function, arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def storage_bytes(flat: np.ndarray) -> bytes:
    """torch.save of a storage with the format before zip files."""
    kind = {"float32": "FloatStorage", "int64": "LongStorage"}[flat.dtype.name]
    stream = io.BytesIO()
    for part in (_TORCH_MAGIC, _TORCH_PROTOCOL, {"little_endian": True}):
        pickle.dump(part, stream, protocol=2)
    mark = _Mark()
    identifier = ("storage", getattr(sys.modules["torch"], kind), "94", "cpu", flat.size, None)
    _StoragePickler(stream, {mark: identifier}).dump(mark)
    pickle.dump(["94"], stream, protocol=2)
    stream.write(struct.pack("<q", flat.size) + flat.tobytes())
    return stream.getvalue()


class _Mark:
    """Stands for the storage while it is pickled by its persistent id."""


class _StoragePickler(pickle.Pickler):
    def __init__(self, stream, identifiers):
        super().__init__(stream, protocol=2)
        self.identifiers = identifiers

    def persistent_id(self, obj):
        return self.identifiers[obj] if isinstance(obj, _Mark) else None


@contextlib.contextmanager
def fake_packages():
    """Register chumpy and torch stand-ins while files are written; afterwards they cannot be imported again."""
    names = ("chumpy", "chumpy.ch", "torch", "torch._utils", "torch.storage")
    before = {name: sys.modules.get(name) for name in names}
    modules = {name: types.ModuleType(name) for name in names}
    modules["chumpy.ch"].Ch = Ch
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch.storage", "_load_from_bytes")):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = module, name
        setattr(modules[module], name, function)
    for name in ("FloatStorage", "LongStorage"):
        setattr(modules["torch"], name, type(name, (), {"__module__": "torch"}))
    old_module, Ch.__module__ = Ch.__module__, "chumpy.ch"
    sys.modules.update(modules)
    try:
        yield
    finally:
        Ch.__module__ = old_module
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def flame_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random bases and weights over the octahedron, with the shapes of FLAME."""
    rng = np.random.default_rng(seed)
    regressor = rng.uniform(size=(5, VERTICES)) * (rng.uniform(size=(5, VERTICES)) < 0.5)
    return {
        "v_template": TEMPLATE,
        "f": FACES,
        "shapedirs": rng.normal(size=(VERTICES, 3, 400)) * 1e-3,
        "posedirs": rng.normal(size=(VERTICES, 3, 36)) * 1e-3,
        "J_regressor": regressor,
        "weights": rng.dirichlet(np.ones(5), VERTICES),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "J": regressor @ TEMPLATE,
    }


def write_model(
    path: Path,
    arrays: dict[str, np.ndarray],
    *,
    protocol: int = 2,
    chumpy: bool = True,
    regressor=scipy.sparse.csc_matrix,
    **more,
) -> Path:
    """generic_model.pkl: chumpy leaves, a sparse joint regressor, other entries that nobody reads.

    Up to protocol 3 under the names of NumPy 1 and an old SciPy, afterwards under those of today.
    """
    with fake_packages():
        leaves = ("v_template", "shapedirs", "weights", "J") if chumpy else ()
        content = {key: Ch(array) if key in leaves else array for key, array in arrays.items()}
        content["J_regressor"] = regressor(arrays["J_regressor"])
        content |= {"bs_style": "lbs", "bs_type": "lrotmin"} | more
        data = pickle.dumps(content, protocol=protocol)
    if protocol < 4:
        for kind in ("csc", "csr", "coo"):
            data = data.replace(b"scipy.sparse._" + kind.encode(), b"scipy.sparse." + kind.encode())
        data = data.replace(b"numpy._core", b"numpy.core")
    path.write_bytes(data)
    return path


def landmark_arrays(seed: int = 1, *, eyes: int = 0) -> dict[str, np.ndarray]:
    """What landmark_embedding.npy holds: 51 landmarks, 79 jaw lines, all 68, and `eyes` more."""
    rng = np.random.default_rng(seed)

    def barycentrics(*shape):
        return rng.dirichlet(np.ones(3), shape).astype(np.float32)

    return {
        "static_lmk_faces_idx": rng.integers(0, 8, 51 + eyes),
        "static_lmk_bary_coords": barycentrics(51 + eyes),
        "dynamic_lmk_faces_idx": rng.integers(0, 8, (79, 17)),
        "dynamic_lmk_bary_coords": barycentrics(79, 17),
        "full_lmk_faces_idx": rng.integers(0, 8, (1, 68 + eyes)),
        "full_lmk_bary_coords": barycentrics(1, 68 + eyes),
    }


def write_landmarks(path: Path, *, eyes: int = 0) -> dict[str, np.ndarray]:
    """landmark_embedding.npy: a pickled dict of arrays and old torch tensors; the arrays that are in it."""
    content = landmark_arrays(eyes=eyes)
    with fake_packages():
        stored = {key: Tensor(value) if key.startswith("dynamic") else value for key, value in content.items()}
        np.save(path, np.array(stored, dtype=object), allow_pickle=True)
    return content


def write_pair(static: Path, dynamic: Path) -> dict[str, np.ndarray]:
    """flame_static_embedding.pkl, and flame_dynamic_embedding.npy with lists of rows; the arrays that are in them."""
    content = landmark_arrays()
    points = {"lmk_face_idx": content["static_lmk_faces_idx"].astype(np.uint32)}
    points["lmk_b_coords"] = content["static_lmk_bary_coords"].astype(float)
    static.write_bytes(pickle.dumps(points, protocol=2))
    rows = {"lmk_face_idx": [row.tolist() for row in content["dynamic_lmk_faces_idx"]]}
    rows["lmk_b_coords"] = list(content["dynamic_lmk_bary_coords"].astype(float))
    np.save(dynamic, np.array(rows, dtype=object), allow_pickle=True)
    return content


def write_template(path: Path, *, seed: int = 2) -> dict[tuple[int, ...], np.ndarray]:
    """head_template.obj with faces and corners in another order; uv of each face's corners by its vertices."""
    rng = np.random.default_rng(seed)
    uv, lines, expected = rng.uniform(size=(3 * len(FACES), 2)).round(6), [], {}
    for number, face in enumerate(rng.permutation(FACES).tolist()):
        turn = int(rng.integers(3))
        corners = [(face[(i + turn) % 3], 3 * number + i) for i in range(3)]
        lines.append("f " + " ".join(f"{v + 1}/{t + 1}" for v, t in corners))
        expected |= {(vertex, *sorted(face)): uv[t] for vertex, t in corners}
    positions = [f"v {x} {y} {z}" for x, y, z in TEMPLATE + 1.5]
    path.write_text("\n".join(["# Blender", *positions, *(f"vt {u} {v}" for u, v in uv), "s off", *lines]))
    return expected


def write_eyelids(path: Path, offsets: np.ndarray) -> Path:
    """eyelids.pt: a torch zip file with one tensor [V,3,2] whose channels lie one after the other in memory."""
    flat = np.ascontiguousarray(np.moveaxis(offsets, -1, 0)).astype(np.float32).ravel()
    return _write_torch(path, [(flat, offsets.shape, (3, 1, 3 * len(offsets)))], alone=True)


def write_sheap_landmarks(path: Path) -> dict[str, np.ndarray]:
    """flame_landmark_idxs_barys.pt: a torch zip file with a tuple of face indices [68] and coordinates [68,3]."""
    content = landmark_arrays()
    faces, points = content["full_lmk_faces_idx"][0], content["full_lmk_bary_coords"][0]
    _write_torch(path, [(faces, (68,), (1,)), (points.ravel(), (68, 3), (3, 1))])
    return content


def _write_torch(path: Path, tensors: list[tuple], *, alone: bool = False) -> Path:
    """torch.save of a tuple of tensors (memory, shape, strides), or of one."""
    kinds = {"float32": "FloatStorage", "int64": "LongStorage"}
    with fake_packages():
        stream = io.BytesIO()
        rebuild, marks, parts = sys.modules["torch._utils"]._rebuild_tensor_v2, {}, []
        for number, (flat, shape, strides) in enumerate(tensors):
            mark = _Mark()
            kind = getattr(sys.modules["torch"], kinds[flat.dtype.name])
            marks[mark] = ("storage", kind, str(number), "cuda:0", flat.size)
            parts.append(_Reduced(rebuild, (mark, 0, shape, strides, False, OrderedDict())))
        _StoragePickler(stream, marks).dump(parts[0] if alone else tuple(parts))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", stream.getvalue())
        archive.writestr(f"{path.stem}/byteorder", "little")
        for number, (flat, _, _) in enumerate(tensors):
            archive.writestr(f"{path.stem}/data/{number}", flat.tobytes())
        archive.writestr(f"{path.stem}/version", "3\n")
    return path
