"""Pretrained models: what a run has learned, as two files, without the run.

A folder holds `config.json` and `weights.npz`, float16 for the networks. One such folder comes with this package; every
command takes it under the name "pretrained". `sheap export RUN OUT/` makes others.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax import config_files
from sheap_jax.config import Config
from sheap_jax.files.array_files import read_npz
from sheap_jax.files.json_files import parse_json
from sheap_jax.files.urls import open_path
from sheap_jax.files.whole_file import whole_file
from sheap_jax.models.weights import flatten, unflatten
from sheap_jax.training.state import Learned
from sheap_jax.types import PrototypeState

NAME = "pretrained"  # what a command calls the model that comes along
HELP = "a training run, a folder of weights, or pretrained: the model that comes along"
PACKAGED = Path(__file__).parents[1] / "pretrained"
WEIGHTS = "weights.npz"
FORMAT_VERSION = 1


def find(directory: str | Path) -> Path:
    """The directory that is meant: "pretrained" is the packaged one, unless a model of that name is here."""
    directory = open_path(directory)
    return PACKAGED if directory == Path(NAME) and not (directory / "config.json").exists() else directory


def run_folder(directory: str | Path) -> Path:
    """Where results about a model belong: its own directory, but not within the package."""
    return Path("runs") / NAME if find(directory).resolve() == PACKAGED.resolve() else open_path(directory)


def is_pretrained(directory: str | Path) -> bool:
    """Whether a directory holds a pretrained model, and no run."""
    return (open_path(directory) / WEIGHTS).exists()


def save_pretrained(directory: str | Path, config: Config, learned: Learned) -> None:
    """Write a model into its directory, which is made; files of an older one are replaced.

    Raises ValueError for weights that are not finite in half precision.
    """
    directory = open_path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with np.errstate(over="ignore"):  # named below
        params = jax.tree.map(lambda x: np.asarray(x, np.float16), learned.params)
    prototypes = jax.tree.map(np.asarray, learned.prototypes)._asdict()
    arrays = flatten({"params": params, "prototypes": prototypes})
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"{broken[0]} has numbers that half precision cannot hold: this model has diverged")
    about = {"format_version": FORMAT_VERSION, "step": int(learned.step)}
    with whole_file(directory / WEIGHTS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    config_files.save_json(config, directory / "config.json")


def load_learned(directory: str | Path, like: Learned) -> Learned:
    """What `save_pretrained` wrote, with the dtypes of `like`, whose leaves may be shapes alone.

    Raises OSError or ValueError, naming the file, if it is missing, damaged or of another network.
    """
    path = open_path(directory) / WEIGHTS
    way_out = "fetch it again, or make it anew with `sheap export RUN OUT/`"
    arrays = read_npz(path, kind="pretrained model", way_out=way_out)
    try:
        about = parse_json(str(arrays.pop("about")))
        version, step = int(about["format_version"]), int(about["step"])
        if not 0 <= step < 2**31:
            raise ValueError(f"step {step}")
        odd = [
            name for name, values in arrays.items() if values.dtype.kind not in "biuf" or not np.isfinite(values).all()
        ]
        if odd:
            raise ValueError(f"{odd[0]} holds what is no number")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged or no pretrained model ({error}): {way_out}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, not {FORMAT_VERSION}: {way_out}")
    wanted = flatten({"params": like.params, "prototypes": like.prototypes._asdict()})
    shapes = {name: np.shape(value) for name, value in arrays.items()}
    expected = {name: tuple(value.shape) for name, value in wanted.items()}
    wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if wrong:
        found = ", ".join(f"{name} is {shapes.get(name)}, not {expected.get(name)}" for name in wrong[:3])
        raise ValueError(f"{path} does not fit the networks of this configuration ({found}): take its config.json")
    faces = np.asarray(arrays["prototypes/parent_face"])
    if faces.min(initial=0) < 0:
        raise ValueError(f"{path} is damaged (a face number below 0): {way_out}")
    typed = unflatten({name: jnp.asarray(value, wanted[name].dtype) for name, value in arrays.items()})
    return Learned(jnp.asarray(step, jnp.int32), typed["params"], PrototypeState(**typed["prototypes"]))
