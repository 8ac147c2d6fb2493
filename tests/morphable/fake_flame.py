"""Files in exactly FLAME's formats with an octahedron for a head, and fake packages to write them with.

chumpy and torch are not needed for that: a pickle holds names and arguments, so that stand-ins registered under the
real names for the time of writing give the same bytes.
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
    """A chumpy leaf: its data is the attribute x, beside chumpy's own bookkeeping."""

    def __init__(self, x):
        self.x = np.asarray(x)
        self._dirty_vars, self._cache = set(), {}

    def __getstate__(self):
        return {"x": self.x, "_cache": OrderedDict()}


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
    _StoragePickler(stream, ("storage", getattr(sys.modules["torch"], kind), "94", "cpu", flat.size, None)).dump(
        _Mark()
    )
    pickle.dump(["94"], stream, protocol=2)
    stream.write(struct.pack("<q", flat.size) + flat.tobytes())
    return stream.getvalue()


class _Mark:
    """Stands for the storage while it is pickled by its persistent id."""


class _StoragePickler(pickle.Pickler):
    def __init__(self, stream, identifier):
        super().__init__(stream, protocol=2)
        self.identifier = identifier

    def persistent_id(self, obj):
        return self.identifier if isinstance(obj, _Mark) else None


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


def write_model(path: Path, arrays: dict[str, np.ndarray], *, protocol: int = 2) -> Path:
    """generic_model.pkl: chumpy leaves for some arrays, a sparse joint regressor, other entries that nobody reads."""
    with fake_packages():
        content = {key: Ch(arrays[key]) if key in ("v_template", "shapedirs") else arrays[key] for key in arrays}
        content["J_regressor"] = scipy.sparse.csc_matrix(arrays["J_regressor"])
        content |= {"bs_style": "lbs", "bs_type": "lrotmin"}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_landmarks(path: Path, *, eyes: int = 0, seed: int = 1) -> dict[str, np.ndarray]:
    """landmark_embedding.npy: a pickled dict of arrays and old torch tensors; the arrays that are in it."""
    rng = np.random.default_rng(seed)

    def barycentrics(*shape):
        return rng.dirichlet(np.ones(3), shape).astype(np.float32)

    content = {
        "static_lmk_faces_idx": rng.integers(0, 8, 51 + eyes),
        "static_lmk_bary_coords": barycentrics(51 + eyes),
        "dynamic_lmk_faces_idx": rng.integers(0, 8, (79, 17)),
        "dynamic_lmk_bary_coords": barycentrics(79, 17),
        "full_lmk_faces_idx": rng.integers(0, 8, (1, 68 + eyes)),
        "full_lmk_bary_coords": barycentrics(1, 68 + eyes),
    }
    with fake_packages():
        stored = {key: Tensor(value) if key.startswith("dynamic") else value for key, value in content.items()}
        np.save(path, np.array(stored, dtype=object), allow_pickle=True)
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
    with fake_packages():
        flat = np.ascontiguousarray(np.moveaxis(offsets, -1, 0)).astype(np.float32).ravel()
        identifier = ("storage", sys.modules["torch"].FloatStorage, "0", "cpu", flat.size)
        stream = io.BytesIO()
        arguments = (_Mark(), 0, offsets.shape, (3, 1, 3 * len(offsets)), False, OrderedDict())
        _StoragePickler(stream, identifier).dump(_Reduced(sys.modules["torch._utils"]._rebuild_tensor_v2, arguments))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("eyelids/data.pkl", stream.getvalue())
        archive.writestr("eyelids/byteorder", "little")
        archive.writestr("eyelids/data/0", flat.tobytes())
        archive.writestr("eyelids/version", "3\n")
    return path
