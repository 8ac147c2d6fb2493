"""The face crop: which square of a photograph the estimator sees, and where points lie in it.

The rule is the one of the official release's video demo for square pictures: the square box of the 68 landmarks, 1.9
times as large, its centre moved up by a quarter of the box's side. The release itself measures boxes in shares of the
picture's sides and stays within it (`Framing`); ours depends on the face alone, and what lies outside is black.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

MARGIN = 1.9  # half side of the crop over half side of the landmarks' square box
SHIFT_UP = 0.5  # how far the centre moves up, in half sides of the landmarks' box
DETECTION_MARGIN, DETECTION_SHIFT_UP = 1.75, 0.38  # the same for boxes of face detectors, see `crop_detection`
SMOOTHING = 0.3  # weight of the new frame in the exponential moving average over a video

# "pixels": our rule. "official": width and height of the landmarks count as shares of the picture's sides, so that in a
# portrait the crop is larger by height / width. What reaches beyond the picture is cut off, and the rest is stretched.
Framing = Literal["pixels", "official"]


class CropBox(NamedTuple):
    """A square in pixels of the original image, or a rectangle that becomes one; it may reach beyond the image."""

    center: Float[np.ndarray, "*n 2"]  # x, y
    half: Float[np.ndarray, "*n"]  # half the side
    turns: Int[np.ndarray, "*n"] | int = 0  # quarter turns, counterclockwise, of the square that set the head upright
    stretch: Float[np.ndarray, "*n 2"] | tuple[float, float] = (1.0, 1.0)  # half width and half height over `half`

    @property
    def half_sides(self) -> Float[np.ndarray, "*n 2"]:
        """Half width and half height."""
        return np.asarray(self.half)[..., None] * np.asarray(self.stretch)


def picture_size(image: UInt8[np.ndarray, "h w 3"], framing: Framing) -> Float[np.ndarray, "2"] | None:
    """What `crop_box` needs to know of a picture: its width and height, or nothing."""
    return np.array(image.shape[1::-1], np.float64) if framing == "official" else None


def crop_box(
    landmarks: Float[np.ndarray, "*n l 2"],
    *,
    margin: float = MARGIN,
    shift_up: float = SHIFT_UP,
    picture: Float[np.ndarray, "2"] | None = None,
) -> CropBox:
    """The crop of a face from its landmarks in pixels (x right, y down).

    Args:
      picture: its width and height, for the official framing; None for ours.

    Raises:
      ValueError: a landmark is not finite, all landmarks fall together, or, with the official framing, the crop lies
        outside the picture: there is no box.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks are not finite: drop the frame, it has no face")
    low, high = landmarks.min(axis=-2), landmarks.max(axis=-2)
    shape = np.ones(2) if picture is None else np.array([picture[1] / picture[0], 1.0])
    half = ((high - low) * shape).max(axis=-1) / 2
    if np.any(half <= 0):
        raise ValueError("all landmarks lie on one point: there is no face to crop")
    up = np.stack([np.zeros_like(half), shift_up * half], axis=-1)
    box = CropBox(center=(low + high) / 2 - up, half=margin * half)
    return box if picture is None else _within(box, picture)


def _within(box: CropBox, picture: Float[np.ndarray, "2"]) -> CropBox:
    """The part of a square that lies in a picture of this width and height."""
    low, high = np.maximum(box.center - box.half_sides, 0.0), np.minimum(box.center + box.half_sides, picture)
    if np.any(high <= low):
        raise ValueError("the face lies outside the picture: there is nothing to crop")
    sides = (high - low) / 2
    half = sides.max(axis=-1)
    return CropBox((low + high) / 2, half, stretch=sides / half[..., None])


def upright_box(landmarks: Float[np.ndarray, "68 2"], *, picture: Float[np.ndarray, "2"] | None = None) -> CropBox:
    """The crop of a face whose head may lie on its side or be upside down, turned so that it stands.

    The rule of `crop_box` in the picture turned by the quarter turns that bring the eyes next to a level line.
    `picture` and errors as there.
    """
    points = np.asarray(landmarks, np.float64)
    right, left = points[36], points[45]  # outer corners of the subject's eyes
    turns = round(float(np.arctan2(left[1] - right[1], left[0] - right[0])) / (np.pi / 2)) % 4
    if picture is None:
        box = crop_box(_turn(points, turns))
        return CropBox(_turn(box.center, -turns), box.half, turns)
    size = np.asarray(picture, np.float64)
    upright = size[::-1] if turns % 2 else size
    box = crop_box(_turn(points - size / 2, turns) + upright / 2, picture=upright)
    stretch = np.asarray(box.stretch)
    center = _turn(box.center - upright / 2, -turns) + size / 2
    return CropBox(center, box.half, turns, stretch[::-1] if turns % 2 else stretch)


def _turn(points: Float[np.ndarray, "*n 2"], turns: Int[np.ndarray, "*m"] | int) -> Float[np.ndarray, "*n 2"]:
    """Points (x right, y down) turned counterclockwise about the origin; the axes of `turns` are their first ones."""
    turns = np.asarray(turns) % 4
    turns = turns.reshape(turns.shape + (1,) * (points.ndim - 1 - turns.ndim))
    cosine, sine = (np.array(values)[turns] for values in ((1, 0, -1, 0), (0, 1, 0, -1)))
    x, y = points[..., 0], points[..., 1]
    return np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1)


def crop_detection(box: Float[np.ndarray, "*n 4"], *, picture: Float[np.ndarray, "2"] | None = None) -> CropBox:
    """The crop of a face from the left, top, right, bottom of a face detector's box (brows to chin and a little more).

    The two constants make it the crop of the landmarks on average: measured on 311 frames with MediaPipe's boxes, where
    the landmarks' square is 0.92 times as large and lies lower by 0.08 of the box's half side.

    Raises ValueError for a box that is not finite or empty; `picture` as in `crop_box`.
    """
    low_high = np.asarray(box, np.float64).reshape(*np.shape(box)[:-1], 2, 2)
    if not np.isfinite(low_high).all() or np.any(low_high[..., 1, :] <= low_high[..., 0, :]):
        raise ValueError(f"the box {np.asarray(box).tolist()} (left, top, right, bottom) is empty")
    return crop_box(low_high, margin=DETECTION_MARGIN, shift_up=DETECTION_SHIFT_UP, picture=picture)


def follow_box(previous: CropBox, box: CropBox, *, frames: int = 1) -> CropBox:
    """One step of the exponential moving average that keeps the crop of a video calm. A turned crop begins anew.

    Args:
      previous: the averaged box of the last frame that was used; the first frame of a video keeps its own box.
      frames: how many frames ago that was: after a gap the new box counts as if it had been seen in all of them.
    """
    if np.any(previous.turns != box.turns):
        return box
    share = 1.0 - (1.0 - SMOOTHING) ** frames
    center, half, sides = (
        (1.0 - share) * old + share * new
        for old, new in zip((*previous[:2], previous.half_sides), (*box[:2], box.half_sides), strict=True)
    )
    return CropBox(center, half, box.turns, sides / np.asarray(half)[..., None])


def crop_image(image: UInt8[np.ndarray, "h w c"], box: CropBox, size: int) -> UInt8[np.ndarray, "size size c"]:
    """Cut the box out of an image, scale it to `size` pixels and turn it; what lies outside the image is black.

    A shrinking crop is averaged over pixel areas, an enlarging one interpolated linearly.
    """
    import cv2

    scale = size / (2 * float(np.max(box.half_sides)))
    if scale < 0.5:  # bilinear sampling alone would skip pixels: shrink by area first, then place exactly
        height, width = image.shape[:2]
        shrunk = (max(1, round(width * scale * 1.5)), max(1, round(height * scale * 1.5)))
        factor = np.array([shrunk[0] / width, shrunk[1] / height])
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    else:
        factor = np.ones(2)
    # cv2 puts the centre of the first pixel at 0, we put it at 0.5.
    corner = (np.asarray(box.center) - box.half_sides) * factor
    step = 2 * box.half_sides * factor / size  # pixels of `image` per pixel of the crop
    matrix = np.array([[step[0], 0, corner[0] + 0.5 * step[0] - 0.5], [0, step[1], corner[1] + 0.5 * step[1] - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.rot90(crop, int(box.turns))


def to_crop(points: Float[np.ndarray, "*n l 2"], box: CropBox, size: int) -> Float[np.ndarray, "*n l 2"]:
    """Pixels of the original image to pixels of the crop."""
    scale = size / (2 * box.half_sides)
    return _turn((points - np.asarray(box.center)[..., None, :]) * scale[..., None, :], box.turns) + size / 2
