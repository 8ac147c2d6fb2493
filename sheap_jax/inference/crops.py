"""Where the faces are, by the options of the command lines; and a photograph as the network's input."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sheap_jax.cropping import CropBox, Framing, crop_image
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.landmarks import FaceLandmarker, NpzLandmarks
from sheap_jax.inference.faces import BoxFaces, FaceFinder, LandmarkFaces, UnstatedFaces, WholePicture


def add_face_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """The options that say where the faces are, one of which is to be given."""
    faces = parser.add_mutually_exclusive_group(required=required)
    faces.add_argument("--face-landmarker", type=Path, metavar="MODEL.task", help="MediaPipe's model; needs mediapipe")
    faces.add_argument("--landmarks", type=Path, metavar="FILE.npz", help="68 landmarks per face, made before")
    faces.add_argument(
        "--boxes", type=Path, metavar="FILE.csv", help="columns file, left, top, right, bottom (, frame)"
    )
    faces.add_argument("--cropped", action="store_true", help="the pictures are face crops already")


@contextlib.contextmanager
def open_finder(
    options: argparse.Namespace, *, max_faces: int = 1, framing: Framing = "pixels"
) -> Iterator[FaceFinder]:
    """The face finder that the options of `add_face_options` name. It crops by the rule that the network knows.

    `max_faces` is for --face-landmarker.
    """
    if options.boxes:
        yield BoxFaces(options.boxes, framing=framing)
    elif options.cropped:
        yield WholePicture(framing=framing)
    elif options.landmarks:
        yield LandmarkFaces(NpzLandmarks(options.landmarks), framing=framing)
    elif options.face_landmarker:
        with contextlib.closing(FaceLandmarker(options.face_landmarker, max_faces=max_faces)) as source:
            yield LandmarkFaces(source, framing=framing)
    else:
        yield UnstatedFaces()


class LargestFace(NamedTuple):
    """The crop of the largest face of a picture."""

    pixels: Float[Array, "size size 3"]  # in [0, 1]
    box: CropBox
    faces: int  # found in the picture


def largest_face(image: UInt8[np.ndarray, "h w 3"], finder: FaceFinder, *, name: str, size: int) -> LargestFace:
    """The largest face that a finder gives, as the network's input.

    Raises ValueError, with the picture's `name`, if there is no face.
    """
    finder.start(Clip(name, name, (Path(name),), is_video=False))
    boxes = finder.find(0, image)
    if not boxes:
        raise ValueError(f"{name}: no face found")
    box = max(boxes, key=lambda box: float(box.half))
    return LargestFace(jnp.asarray(crop_image(image, box, size), jnp.float32) / 255.0, box, len(boxes))
