"""Avatars: the surfels of one photograph, bound to the faces of a morphable model that any head parameters move.

    sheap avatar pretrained alice.jpg alice.npz alice.ply --face-landmarker face_landmarker.task

The .npz is what `sheap reenact` and `sheap view` animate; the .ply holds the same surfels in neutral pose as standard
Gaussian splats. docs/avatars.md describes both.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sheap_jax import command_line
from sheap_jax.data.photographs import read_photograph
from sheap_jax.data.prepare.clips import VIDEO_SUFFIXES, PrepareError
from sheap_jax.data.prepare.landmarks import MOST_FACES
from sheap_jax.files.array_files import read_npz
from sheap_jax.files.array_shapes import check_arrays
from sheap_jax.files.places import check_writable
from sheap_jax.files.whole_file import whole_file
from sheap_jax.inference.crops import add_face_options, largest_face, open_finder
from sheap_jax.inference.faces import FaceFinder
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.splats import write_splats
from sheap_jax.method import lighting, reanimation
from sheap_jax.method.reanimation import Avatar
from sheap_jax.morphable import MorphableModel, forward
from sheap_jax.morphable.model import mean_params
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import pretrained
from sheap_jax.types import HeadParams, LocalSurfels, PrototypeState

FORMAT_VERSION = 1
ERRORS = (PrepareError, OSError, RuntimeError, ValueError)  # that the command lines turn into one line


_AXES = {
    "parent_face": "whole n",
    "barycentric": "number n 3",
    "offset": "number n 3",
    "scale": "number n 3",
    "rotation": "number n 4",
    "albedo": "number n 3",
    "opacity": "number n",
    "light": "number 9 3",
    "shape": "number s",
    "expression": "number e",
    "rotations": "number j 3",
    "translation": "number 3",
    "morphable": "text",
}


@flax.struct.dataclass
class RiggedSurfels:
    """What an avatar file holds: active surfels in the frames of their faces, and how the photograph shows the head."""

    parent_face: Int[Array, "n"]
    barycentric: Float[Array, "n 3"]  # anchor on the parent face
    local: LocalSurfels  # without batch axis
    light: Float[Array, "9 3"]  # harmonic coefficients, as in sheap_jax.method.lighting
    head: HeadParams  # of the photograph, without batch axis; its shape belongs to the avatar
    morphable: str = flax.struct.field(pytree_node=False)  # as a configuration names it

    def neutral(self) -> HeadParams:
        """The person without expression and pose."""
        return jax.tree.map(jnp.zeros_like, self.head)._replace(shape=self.head.shape)


def rig_surfels(predictor: Predictor, image: Float[Array, "h w 3"]) -> RiggedSurfels:
    """The avatar of the person in a crop of the size that the predictor takes. Raises what `check_surfels` does."""
    check_surfels(predictor)
    assets, networks, learned = predictor.parts()
    outputs = _regress(networks, learned.params, assets, learned.prototypes, image[None])
    local, light, head = jax.tree.map(lambda x: x[0], outputs)
    active = np.asarray(learned.prototypes.active)
    rigged = RiggedSurfels(
        parent_face=learned.prototypes.parent_face[active],
        barycentric=learned.prototypes.barycentric[active],
        local=jax.tree.map(lambda x: x[active], local),
        light=light,
        head=head,
        morphable=predictor.config.morphable,
    )
    check_fits(rigged, predictor.model)
    return rigged


def check_surfels(predictor: Predictor) -> None:
    """ValueError if a predictor has no surfels, or others than avatar files describe."""
    predictor.parts()
    config = predictor.config
    if config.regressor.isotropic or config.primitive != "surfels":
        raise ValueError(
            f"run {config.name!r} has other surfels than avatar files describe: train without the ablation"
        )


def avatar_of_photo(
    predictor: Predictor, path: str | Path, finder: FaceFinder, *, tell: Callable[[str], object] = lambda line: None
) -> RiggedSurfels:
    """The avatar of the largest face of a picture file; `tell` gets a line where there are several.

    Raises ValueError if there is no face, or it is no picture.
    """
    face = largest_face(read_photograph(path), finder, name=str(path), size=predictor.config.image_size)
    if face.faces > 1:
        x, y = face.box.center
        tell(f"{path}: {face.faces} faces found, the largest is taken: its crop has the centre ({x:.0f}, {y:.0f})")
    return rig_surfels(predictor, face.pixels)


@jax.jit
def pose_surfels(rigged: RiggedSurfels, model: MorphableModel, params: HeadParams) -> Avatar:
    """The avatar's surfels on the head of `params` (no batch axis), in the world and lit."""
    count = rigged.parent_face.shape[0]
    prototypes = PrototypeState(
        rigged.parent_face,
        rigged.barycentric,
        active=jnp.ones(count, bool),
        opacity_mean=rigged.local.opacity,
        gradient_norm=jnp.zeros(count),
    )
    return reanimation.pose_avatar(rigged.local, prototypes, forward(model, params), model.faces, rigged.light)


def save_avatar(rigged: RiggedSurfels, path: str | Path) -> None:
    """Write an animatable avatar as .npz; the keys are listed in docs/avatars.md."""
    arrays = {
        "format_version": FORMAT_VERSION,
        "morphable": rigged.morphable,
        "parent_face": rigged.parent_face,
        "barycentric": rigged.barycentric,
        "light": rigged.light,
        **rigged.local._asdict(),
        **rigged.head._asdict(),
    }
    with whole_file(path) as temporary, temporary.open("wb") as file:  # to a path, NumPy appends .npz after .NPZ
        np.savez(file, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})


def load_avatar(path: str | Path) -> RiggedSurfels:
    """Read an avatar that `save_avatar` wrote.

    Raises FileNotFoundError; ValueError if the file is damaged, of another format, or lacks an array.
    """
    path = Path(path)
    found = read_npz(path, kind="avatar (.npz)", way_out="make it again with sheap avatar")
    if found.get("format_version", np.array(0)).tolist() != FORMAT_VERSION:
        raise ValueError(f"{path} is no avatar of format {FORMAT_VERSION}: make it with `sheap avatar`")
    check_arrays(path, found, _AXES, way_out="make the avatar again")
    arrays = {key: jnp.asarray(value) if value.dtype.kind in "biuf" else value for key, value in found.items()}
    try:
        return RiggedSurfels(
            parent_face=arrays["parent_face"],
            barycentric=arrays["barycentric"],
            local=LocalSurfels(*(arrays[key] for key in LocalSurfels._fields)),
            light=arrays["light"],
            head=HeadParams(*(arrays[key] for key in HeadParams._fields)),
            morphable=str(arrays["morphable"]),
        )
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}: make the avatar again") from error


def load_model_of(rigged: RiggedSurfels, morphable: str | None = None) -> MorphableModel:
    """The avatar's morphable model, or the one that `morphable` names; ValueError if that does not fit."""
    model = jax.tree.map(jnp.asarray, load_morphable(morphable or rigged.morphable))
    check_fits(rigged, model)
    return model


def check_fits(rigged: RiggedSurfels, model: MorphableModel) -> None:
    """Raise ValueError if the avatar was made with another morphable model, as far as counts tell."""
    ours = jax.tree.map(jnp.shape, rigged.head)
    theirs = jax.tree.map(jnp.shape, mean_params(model))
    if ours != theirs or int(jnp.max(rigged.parent_face)) >= model.faces.shape[0]:
        raise ValueError(
            f"the avatar's morphable model is {rigged.morphable}, {model.name} does not fit: it has "
            f"{model.faces.shape[0]} faces and parameters of the sizes {theirs}"
        )


@functools.partial(jax.jit, static_argnums=0)
def _regress(networks, params, assets, prototypes, image):
    pair = reanimation.estimate_pair(networks, params, assets, image, image)
    avatar = reanimation.build_avatar(networks, params, assets, prototypes, pair)
    return avatar.local, lighting.coefficients(assets.light_prior, pair.source_estimate.light), pair.source.params


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("avatar", __doc__, urls=("checkpoint",))
    parser.add_argument("checkpoint", metavar="RUN", help=pretrained.HELP)
    parser.add_argument("photo", metavar="PHOTO", help="a picture of the person")
    parser.add_argument("outputs", nargs="+", metavar="OUTPUT", help="avatar .npz, splats in neutral pose .ply")
    add_face_options(parser, required=True)
    options = parser.parse_args(arguments)
    unknown = [path for path in options.outputs if Path(path).suffix.lower() not in (".npz", ".ply")]
    if unknown:
        raise ValueError(f"{unknown[0]}: avatars are written as .npz or .ply")
    if Path(options.photo).suffix.lower() in VIDEO_SUFFIXES - {".gif"}:
        raise ValueError(f"{options.photo} is a video, wanted is a photograph: save one frame of it as a picture")
    for path in options.outputs:
        check_writable(Path(path).parent)
    predictor = Predictor.from_checkpoint(options.checkpoint)
    check_surfels(predictor)
    with open_finder(options, max_faces=MOST_FACES) as finder:
        rigged = avatar_of_photo(predictor, options.photo, finder, tell=print)
    for path in options.outputs:
        if Path(path).suffix.lower() == ".npz":
            save_avatar(rigged, path)
        else:
            posed = pose_surfels(rigged, predictor.model, rigged.neutral())
            write_splats(path, posed.surfels, posed.colors)
        print(f"{path}: {rigged.parent_face.shape[0]} surfels")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
