"""FLAME as a `MorphableModel`, from the files that users download themselves (docs/flame.md):

    sheap convert flame --model generic_model.pkl --landmarks landmark_embedding.npy \\
        --template head_template.obj [--eyelids eyelids.pt] [--masks FLAME_masks.pkl] assets/flame2020.npz

FLAME (flame.is.tue.mpg.de), 2020 or 2023, may not be passed on, so everybody converts their own. Besides the model:
68 landmarks, mostly with a sliding contour, and optionally the uv layout, eyelid shapes and regions.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sheap_jax import command_line
from sheap_jax.files.file_kinds import check_npz_output
from sheap_jax.morphable.flame_files import JOINT_NAMES, NAMES, check_presence, describe, read_model
from sheap_jax.morphable.flame_landmarks import read_landmarks
from sheap_jax.morphable.flame_surface import EYELID_NAMES, read_eyelids, read_regions, read_uv
from sheap_jax.morphable.model import MorphableModel
from sheap_jax.morphable.storage import save_model

ERRORS = (OSError, ValueError)


def read_flame(
    model: Path,
    landmarks: Path,
    template: Path | None = None,
    *,
    contour: Path | None = None,
    eyelids: Sequence[Path] = (),
    masks: Path | None = None,
    num_identity: int | None = None,
    any_size: bool = False,
) -> MorphableModel:
    """Build the model from FLAME's files; none of them is run (see safe_pickle).

    Without `template` the model has no uv layout; `num_identity` and `any_size` as in `read_model`.

    Raises:
      FileNotFoundError: files are missing; says which, with their sources and licences.
      ValueError: a file is not what it should be, or does not fit to the model; names it.
    """
    given = {"model": model, "landmarks": landmarks, "contour": contour, "template": template, "masks": masks}
    check_presence([*given.items(), *(("eyelids", path) for path in eyelids)])
    arrays = read_model(model, num_identity=num_identity, any_size=any_size)
    expression = arrays.shapes[arrays.num_identity :]
    names = [f"expression_{i}" for i in range(len(expression))]
    if eyelids:
        expression = np.concatenate([expression, read_eyelids(eyelids, arrays.template)])
        names += EYELID_NAMES
    points = read_landmarks(landmarks, len(arrays.faces), contour=contour)
    layout = read_uv(template, arrays.faces)
    return MorphableModel(
        template=_float(arrays.template),
        identity_basis=_float(arrays.shapes[: arrays.num_identity]),
        expression_basis=_float(expression),
        pose_basis=_float(arrays.pose),
        joint_regressor=_float(arrays.regressor),
        skinning_weights=_float(arrays.weights),
        faces=jnp.asarray(arrays.faces, jnp.int32),
        uv=_float(layout.uv),
        uv_faces=jnp.asarray(layout.faces, jnp.int32),
        landmark_faces=jnp.asarray(points.fixed.faces, jnp.int32),
        landmark_barycentrics=_float(points.fixed.barycentrics),
        contour_faces=jnp.asarray(points.contour.faces, jnp.int32),
        contour_barycentrics=_float(points.contour.barycentrics),
        regions={name: _float(mask) for name, mask in read_regions(masks, len(arrays.template)).items()},
        parents=arrays.parents,
        joint_names=JOINT_NAMES,
        expression_names=tuple(names),
        name="flame",
        joints_follow_expression=True,
    )


def _float(array: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(np.asarray(array), jnp.float32)


def _summary(model: MorphableModel) -> str:
    contour = f"{len(model.contour_faces)} jaw lines by yaw" if len(model.contour_faces) else "a fixed jaw line"
    uv = f"{len(model.uv)} uv points" if len(model.uv) else "no uv layout: give --template to train with it"
    return (
        f"{model.template.shape[0]} vertices, {model.identity_basis.shape[0]} identity and "
        f"{len(model.expression_names)} expression channels, {contour}, {uv}, regions: {', '.join(model.regions)}"
    )


def _parser() -> argparse.ArgumentParser:
    files = "\n".join(f"  --{kind}: {describe(kind)}" for kind in NAMES)
    parser = command_line.make_parser("convert flame", __doc__, epilog=f"The files:\n{files}")
    parser.add_argument("--model", type=Path, required=True, metavar="FLAME.pkl", help="the head model, .pkl or .npz")
    parser.add_argument("--landmarks", type=Path, required=True, metavar="landmark_embedding.npy", help="68 landmarks")
    parser.add_argument(
        "--contour", type=Path, metavar="flame_dynamic_embedding.npy", help="for flame_static_embedding.pkl"
    )
    parser.add_argument("--template", type=Path, metavar="head_template.obj", help="for its uv coordinates")
    parser.add_argument("output", type=Path, metavar="OUT.npz", help="the converted model")
    lids = {"action": "append", "default": [], "metavar": "eyelids.pt", "help": "two further expression channels"}
    parser.add_argument("--eyelids", type=Path, **lids)
    parser.add_argument("--masks", type=Path, metavar="FLAME_masks.pkl", help="vertex regions")
    parser.add_argument(
        "--identity-channels", type=int, metavar="N", help="how many shape components are identity (FLAME: 300 of 400)"
    )
    parser.add_argument("--any-size", action="store_true", help="take another mesh than FLAME's 5023 vertices")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    inputs = [options.model, options.landmarks, options.contour, options.template, options.masks, *options.eyelids]
    if any(path is not None and path.resolve() == options.output.resolve() for path in inputs):
        raise ValueError(f"{options.output} is one of the files to read: give another name for the converted model")
    check_npz_output(options.output)
    model = read_flame(
        options.model,
        options.landmarks,
        options.template,
        contour=options.contour,
        eyelids=options.eyelids,
        masks=options.masks,
        num_identity=options.identity_channels,
        any_size=options.any_size,
    )
    save_model(model, options.output)
    print(f"{options.output}: {_summary(model)}")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
