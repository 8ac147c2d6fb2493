"""From a photograph to the network's input, for the commands that need one face."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sheap_jax.data.cropping import crop_image
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.landmarks import FaceLandmarker
from sheap_jax.inference.faces import FaceFinder, LandmarkFaces, WholePicture

LANDMARKER_HELP = "MediaPipe's face_landmarker.task finds the face; without it pictures must be framed as in training"


@contextlib.contextmanager
def open_finder(landmarker: str | Path | None) -> Iterator[FaceFinder]:
    """Faces by MediaPipe's model file; None takes pictures for crops, framed as in docs/prediction.md."""
    if landmarker is None:
        yield WholePicture()
        return
    with contextlib.closing(FaceLandmarker(Path(landmarker))) as source:
        yield LandmarkFaces(source)


def largest_face(
    image: UInt8[np.ndarray, "h w 3"], finder: FaceFinder, *, name: str, size: int
) -> Float[Array, "size size 3"]:
    """The crop of the largest face in [0, 1]. ValueError, with the picture's `name`, if there is no face."""
    finder.start(Clip(name, name, (Path(name),), is_video=False))
    boxes = finder.find(0, image)
    if not boxes:
        raise ValueError(f"{name}: no face found")
    largest = max(boxes, key=lambda box: float(box.half))
    return jnp.asarray(crop_image(image, largest, size), jnp.float32) / 255.0
