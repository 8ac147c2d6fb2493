"""A trained run as one file that runs wherever JAX does, without this package; or its weights, for this package.

    sheap export runs/small head.stablehlo
    sheap export runs/small models/small/

The file is a `jax.export` artefact: StableHLO with the weights inside, for CPU, CUDA and TPU, for any number of images.
docs/avatars.md shows the ten lines that load it. The folder holds config.json and the weights in half precision; all
commands take it for a run.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from sheap_jax import command_line
from sheap_jax.files.places import check_writable
from sheap_jax.files.urls import open_path
from sheap_jax.files.whole_file import whole_file
from sheap_jax.inference.avatar import ERRORS
from sheap_jax.inference.predictor import Predictor
from sheap_jax.method import reanimation
from sheap_jax.training.pretrained import HELP, is_pretrained, save_pretrained

PLATFORMS = ("cpu", "cuda", "tpu")


def export_predictor(predictor: Predictor) -> bytes:
    """The serialised function from images [b, size, size, 3] in [0, 1] to a dictionary of arrays.

    Keys: the fields of `HeadParams`; `vertices` [b, v, 3] in metres, posed; `landmarks` [b, 68, 2] in pixels of the
    image; `faces` [f, 3]. A dictionary, since a bundle of ours could not be read without our code.
    """
    assets, networks, learned = predictor.parts()
    params = learned.params["estimator"]
    # On GPUs half precision would bring in an attention kernel that the other platforms lack.
    estimator = networks.estimator.clone(dtype=jnp.float32)

    def predict(images: Float[Array, "b h w 3"]) -> dict[str, Array]:
        output: Any = estimator.apply({"params": params}, images)
        head = reanimation.pose_head(assets, output.estimate.head)
        faces = jnp.asarray(predictor.model.faces)
        return head.params._asdict() | {"vertices": head.vertices, "landmarks": head.landmarks, "faces": faces}

    size = predictor.config.image_size
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    return bytes(jax.export.export(jax.jit(predict), platforms=PLATFORMS)(images).serialize())


def export_weights(checkpoint: str, output: Path) -> None:
    """Write the folder of a pretrained model. Raises ValueError for a folder that holds something else."""
    there = list(output.iterdir()) if output.exists() else []
    foreign = [path for path in there if path.suffix != ".md"]  # a model card may be there first
    if foreign and not is_pretrained(output):
        raise ValueError(f"{output} holds something else ({foreign[0].name}): name a new folder")
    check_writable(output)
    predictor = Predictor.from_checkpoint(checkpoint)
    save_pretrained(output, predictor.config, predictor.parts().learned)
    size = sum(file.stat().st_size for file in output.iterdir())
    print(f"{output}: {size / 1e6:.1f} MB, images of {predictor.config.image_size} pixels")


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("export", __doc__, urls=("checkpoint", "output"))
    parser.add_argument("checkpoint", metavar="RUN", help=HELP)
    parser.add_argument("output", metavar="OUT", help="the artefact's file; or a folder, with a slash at its end")
    options = parser.parse_args(arguments)
    output = open_path(options.output)
    if options.output.endswith(("/", os.sep)):
        export_weights(options.checkpoint, output)
        return
    if output.is_dir():
        parser.error(f"{options.output} is a directory: name the file to write, or end it with / for the weights")
    if importlib.util.find_spec("flatbuffers") is None:
        parser.error("jax.export writes its files with flatbuffers: pip install flatbuffers")
    check_writable(output.parent)
    predictor = Predictor.from_checkpoint(options.checkpoint)
    artefact = export_predictor(predictor)
    with whole_file(output) as temporary:
        temporary.write_bytes(artefact)
    size = predictor.config.image_size
    print(f"{options.output}: {len(artefact) / 1e6:.1f} MB, images of {size} pixels, for {', '.join(PLATFORMS)}")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
