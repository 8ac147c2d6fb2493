"""The official SHeaP release as a network of ours: its outputs as parameters of FLAME.

`sheap convert official` makes a directory with one file of it. Its frame is ours: head space with
+y up and +z out of the face, seen by `geometry.official_camera`; rotations are vectors, the translation is in metres.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax.cropping import Framing
from sheap_jax.files.urls import open_path
from sheap_jax.models.traced.program import Program, ProgramWeights, load_program, save_program
from sheap_jax.models.traced.runner import run_program
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.flame_surface import EYELID_NAMES
from sheap_jax.types import HeadParams

FILE = "official.npz"  # in a directory that predicts by the official release
IMAGE_SIZE = 224  # pixels of its crops
JOINTS = {  # its names for joints of FLAME
    "torso_pose": "root",
    "neck_pose": "neck",
    "jaw_pose": "jaw",
    "eye_l_pose": "left_eye",
    "eye_r_pose": "right_eye",
}
SHAPE, EXPRESSION, EYELIDS, TRANSLATION = "shape_from_facenet", "expr", "eyelids", "cam_trans"
# The order of the two eyelids is that of the channels of its eyelids.pt: right, left.
OUTPUTS = {SHAPE: 300, EXPRESSION: 100, EYELIDS: len(EYELID_NAMES), TRANSLATION: 3} | dict.fromkeys(JOINTS, 3)


class Release(NamedTuple):
    """What is stored of a converted release."""

    program: Program
    weights: ProgramWeights
    source: str  # name of the file that it was
    morphable: str  # path of the converted FLAME
    framing: Framing  # of its crops


def save_release(directory: Path, release: Release) -> None:
    """Write a release into its directory; an older one is replaced only once the new one is complete."""
    facts = {"source": release.source, "morphable": release.morphable, "framing": release.framing}
    save_program(directory / FILE, release.program, release.weights, **facts)


def is_release(directory: str | Path) -> bool:
    """Whether a directory holds a converted release, and no run."""
    return (open_path(directory) / FILE).exists()


def load_release(directory: Path) -> Release:
    """What `save_release` wrote. Raises ValueError, naming the file, if it is damaged."""
    program, weights, facts = load_program(directory / FILE)
    lacking = [name for name in ("source", "morphable", "framing") if not isinstance(facts.get(name), str)]
    if lacking or facts["framing"] not in get_args(Framing):
        raise ValueError(f"{directory / FILE} does not say its {', '.join(lacking) or 'framing'}: convert it again")
    return Release(program, weights, facts["source"], facts["morphable"], facts["framing"])


def check_model(model: MorphableModel, *, path: str | Path) -> None:
    """ValueError if the release's outputs are no parameters of a model; names its file."""
    if model.name != "flame":
        raise ValueError(
            f"{path} is {model.name}, the official release predicts parameters of FLAME 2020: give the .npz that "
            "sheap convert flame makes of it"
        )
    counts = {"identity": model.identity_basis.shape[0], "expression": len(_expressions(model))}
    for what, wanted in (("identity", OUTPUTS[SHAPE]), ("expression", OUTPUTS[EXPRESSION])):
        if counts[what] < wanted:
            raise ValueError(
                f"{path} has {counts[what]} {what} components, the official release predicts {wanted}: convert FLAME "
                "with all of them"
            )


def has_eyelids(model: MorphableModel) -> bool:
    """Whether a FLAME was converted with its eyelids; without, the release's are left out."""
    return set(EYELID_NAMES) <= set(model.expression_names)


def _expressions(model: MorphableModel) -> list[int]:
    """Channels of FLAME's own expressions."""
    return [place for place, name in enumerate(model.expression_names) if name not in EYELID_NAMES]


def head_params(model: MorphableModel, outputs: Mapping[str, Float[Array, "n c"]]) -> HeadParams:
    """The release's outputs as parameters of a FLAME; components that only the model has are zero."""
    count = outputs[TRANSLATION].shape[0]
    shape = jnp.zeros((count, model.identity_basis.shape[0])).at[:, : OUTPUTS[SHAPE]].set(outputs[SHAPE])
    expression = jnp.zeros((count, len(model.expression_names)))
    channels = jnp.array(_expressions(model)[: OUTPUTS[EXPRESSION]])
    expression = expression.at[:, channels].set(outputs[EXPRESSION])
    if has_eyelids(model):
        lids = jnp.array([model.expression_names.index(name) for name in EYELID_NAMES])
        expression = expression.at[:, lids].set(outputs[EYELIDS])
    rotations = jnp.zeros((count, len(model.joint_names), 3))
    for name, joint in JOINTS.items():
        rotations = rotations.at[:, model.joint_names.index(joint)].set(outputs[name])
    return HeadParams(shape, expression, rotations, outputs[TRANSLATION])


def estimate_heads(
    program: Program, weights: Mapping[str, Any], model: MorphableModel, images: Float[Array, "n h w 3"]
) -> HeadParams:
    """The heads in crops of IMAGE_SIZE pixels, values in [0, 1]."""
    outputs = run_program(program, weights, jnp.moveaxis(images, -1, 1))
    return jax.tree.map(lambda x: x.astype(jnp.float32), head_params(model, outputs))
