"""Predicted meshes over the pictures they come from.

A head is rendered in a window somewhat larger than its crop, and the window is laid into the picture. So rendering
costs the same for a small picture and for one of 20 megapixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from sheap_jax.cropping import CropBox
from sheap_jax.data.prepare.video import FrameReader
from sheap_jax.files import pictures
from sheap_jax.files.pictures import save_picture
from sheap_jax.geometry import official_camera
from sheap_jax.inference.batches import BUCKETS, in_buckets
from sheap_jax.inference.pipeline import Prediction
from sheap_jax.inference.video_files import VideoFile
from sheap_jax.method import rendering

WINDOW = 1.6  # side of the rendered window in sides of the crop: crowns and necks reach beyond the crop
SIZES = (128, 256, 384)  # pixels of the window; the smallest that is no coarser than the picture, or the largest
OPACITY = 0.65


class Window(NamedTuple):
    """A rendered head: normals in camera space where the mask is set."""

    normal: Float[np.ndarray, "s s 3"]
    mask: Bool[np.ndarray, "s s"]


def write_overlay(
    stem: Path,
    faces: Int[np.ndarray, "f 3"],
    prediction: Prediction,
    vertices: Float[np.ndarray, "n v 3"],
    *,
    beside: bool,
) -> None:
    """Write `stem`.png or, for a video, `stem`.mp4 of the same times; `beside` puts the picture itself to the left.

    Raises PrepareError, OSError if the clip can no longer be read.
    """
    clip = prediction.footage.clip
    shown = overlay_frames(faces, prediction, vertices, beside=beside)
    if not clip.is_photograph:
        with VideoFile(stem.with_suffix(".mp4")) as video:
            for image, end in zip(shown, prediction.footage.times[1:], strict=True):
                video.write(image, until=float(end))
        return
    for image in shown:
        save_picture(image, stem.with_suffix(".png"))


def overlay_frames(
    faces: Int[np.ndarray, "f 3"], prediction: Prediction, vertices: Float[np.ndarray, "n v 3"], *, beside: bool
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Every frame of the clip, read again, with the meshes of its faces over it."""
    size = next((s for s in SIZES if s >= 2 * WINDOW * np.median(prediction.box.half)), SIZES[-1])
    windows = render_windows(vertices, faces, size)
    box, row = prediction.box, 0
    for number, _, image in FrameReader(prediction.footage.clip):
        shown = image.copy()
        while row < len(prediction.frame) and prediction.frame[row] == number:
            stretch = box.half_sides[row] / box.half[row]
            lay_over(shown, next(windows), CropBox(box.center[row], WINDOW * box.half[row], stretch=stretch))
            row += 1
        yield np.concatenate([image, shown], axis=1) if beside else shown


def render_windows(vertices: Float[np.ndarray, "n v 3"], faces: Int[np.ndarray, "f 3"], size: int) -> Iterator[Window]:
    """One window for each mesh, rendered in batches of the compiled size."""
    for start in range(0, len(vertices), BUCKETS[-1]):
        part = in_buckets(lambda rows: _render(rows, faces, size), vertices[start : start + BUCKETS[-1]])
        yield from (Window(normal, mask) for normal, mask in zip(*part, strict=True))


def _render_windows(vertices: Float[Array, "b v 3"], faces: Int[Array, "f 3"], size: int) -> tuple[Array, Array]:
    camera = official_camera(size)
    wider = camera.intrinsics.at[[0, 1], [0, 1]].divide(WINDOW)
    image = rendering.render_mesh(vertices, faces, camera._replace(intrinsics=wider), width=size, height=size)
    return image.normal, image.mask


_render = jax.jit(_render_windows, static_argnums=2)


def lay_over(image: UInt8[np.ndarray, "h w 3"], window: Window, box: CropBox) -> None:
    """Shade a rendered head into the `box` of an image, in place."""
    import cv2

    low = np.maximum(np.floor(box.center - box.half_sides), 0).astype(int)
    high = np.minimum(np.ceil(box.center + box.half_sides), image.shape[1::-1]).astype(int)
    if np.any(high <= low):
        return
    step = len(window.mask) / (2 * box.half_sides)  # pixels of the window per pixel of the image
    # cv2 puts the centre of the first pixel at 0, we put it at 0.5.
    corner = (low + 0.5 - (box.center - box.half_sides)) * step - 0.5
    matrix = np.array([[step[0], 0, corner[0]], [0, step[1], corner[1]]])
    layers = np.concatenate([pictures.shade(window.normal) * window.mask[..., None], window.mask[..., None]], axis=-1)
    layers = cv2.warpAffine(
        layers.astype(np.float32), matrix, tuple((high - low).tolist()), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    part = image[low[1] : high[1], low[0] : high[0]]
    weight = OPACITY * layers[..., 3:]
    part[:] = np.round((1.0 - weight) * part + OPACITY * 255.0 * layers[..., :3]).astype(np.uint8)
