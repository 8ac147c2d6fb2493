"""The official release as a user has it: a trace with all of its outputs, a FLAME, and what is made of both."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from sheap_jax.models.convert import __main__ as command
from sheap_jax.morphable import MorphableModel, flame
from sheap_jax.morphable.storage import save_model
from tests.models.traced import standins
from tests.morphable import fake_flame


def write_flame(folder: Path, *, eyelids: bool = True, identity: int = 300) -> Path:
    """A converted FLAME with known eyelid offsets."""
    arrays = fake_flame.flame_arrays()
    arrays["shapedirs"] = arrays["shapedirs"][..., : identity + 100]
    fake_flame.write_model(folder / "generic_model.pkl", arrays)
    fake_flame.write_landmarks(folder / "landmark_embedding.npy")
    lids = []
    if eyelids:
        offsets = np.random.default_rng(3).normal(size=(fake_flame.VERTICES, 3, 2)) * 1e-3
        lids = [fake_flame.write_eyelids(folder / "eyelids.pt", offsets)]
    model = flame.read_flame(
        folder / "generic_model.pkl",
        folder / "landmark_embedding.npy",
        eyelids=lids,
        any_size=True,
        num_identity=identity,
    )
    save_model(model, folder / "flame.npz")
    return folder / "flame.npz"


def conversion(source: Path, output: Path, morphable: Path) -> list[str]:
    """The words of the command that converts a release."""
    return ["official", str(source), str(output), "--morphable", str(morphable)]


def write_release(folder: Path) -> Path:
    """The folder, with model.pt, flame.npz and the converted run."""
    torch.manual_seed(0)
    network = standins.Network(sizes=standins.OFFICIAL | {"uncertainty": 5, "blendshapes": 52})
    standins.traced(network, folder / "model.pt", batch=1)
    command.main(conversion(folder / "model.pt", folder / "run", write_flame(folder)))
    return folder


def release_outputs(source: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What torch finds in crops of 224 pixels [n, 224, 224, 3], bytes; as the public inference code asks for it."""
    with torch.no_grad():
        found = torch.jit.load(source)(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    return {name: value.numpy() for name, value in found.items()}


def posed_vertices(outputs: Mapping[str, np.ndarray], model: MorphableModel) -> np.ndarray:
    """Vertices [n, v, 3] of a release's outputs as its own layer (TinyFlame) poses them; only eyelids are `model`'s.

    Shape and expression in one, the eyelids by channel, five joints, the translation.
    """
    rows = range(len(outputs["expr"]))
    return np.stack([_posed({name: value[row] for name, value in outputs.items()}, model) for row in rows])


def _posed(out: Mapping[str, np.ndarray], model: MorphableModel) -> np.ndarray:
    arrays = fake_flame.flame_arrays()
    lids = np.moveaxis(np.asarray(model.expression_basis[100:]), 0, -1)
    head = arrays["v_template"] + arrays["shapedirs"] @ np.concatenate([out["shape_from_facenet"], out["expr"]])
    head = head + lids @ out["eyelids"]
    turned = [cv2.Rodrigues(np.float64(out[name]))[0] for name in standins.POSES]
    posed = head + arrays["posedirs"] @ np.concatenate([(turn - np.eye(3)).ravel() for turn in turned[1:]])
    joints, parents = arrays["J_regressor"] @ head, (None, 0, 1, 1, 1)
    vertices = np.zeros_like(posed)
    for joint in range(len(parents)):
        chain, points = joint, posed
        while chain is not None:
            points = (points - joints[chain]) @ turned[chain].T + joints[chain]
            chain = parents[chain]
        vertices += arrays["weights"][:, joint, None] * points
    return vertices + out["cam_trans"]
