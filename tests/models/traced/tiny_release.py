"""The official release as a user has it: a trace with all of its outputs, a FLAME, and what is made of both."""

from pathlib import Path

import numpy as np
import torch

from sheap_jax.models.convert import __main__ as command
from sheap_jax.morphable import flame
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


def convert(source: Path, output: Path, morphable: Path) -> int:
    """The exit code."""
    try:
        command.main(["official", str(source), str(output), "--morphable", str(morphable)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_release(folder: Path) -> Path:
    """The folder, with model.pt, flame.npz and the converted run."""
    torch.manual_seed(0)
    network = standins.Network(sizes=standins.OFFICIAL | {"uncertainty": 5, "blendshapes": 52})
    standins.traced(network, folder / "model.pt", batch=1)
    assert convert(folder / "model.pt", folder / "run", write_flame(folder)) == 0
    return folder
