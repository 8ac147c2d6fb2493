"""What people wear or hold before their faces: flat shapes that follow the landmarks of each frame."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from sheap_jax.data.embedded.variety import Variety

DETAIL = 4  # a shape is drawn this many times as large, then shrunk: smooth edges
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
BRIDGE, NOSE_BASE = 27, 33


class Accessories(NamedTuple):
    """What one person wears in one clip; None: nothing of the kind."""

    glasses: "Glasses | None"
    hat: "Hat | None"
    occluder: float  # probability per frame


class Glasses(NamedTuple):
    color: Float[np.ndarray, "3"]  # of the frame, sRGB like all colours here
    lens: Float[np.ndarray, "3"]
    opacity: float  # of the lenses: dark glasses hide the eyes
    width: float  # of a lens, in widths of the eye
    height: float  # of a lens, in lengths of the nose
    corner: float  # exponent of the outline: 2 an ellipse, more a rounded box
    thickness: float  # of the frame, in lengths of the nose


class Hat(NamedTuple):
    color: Float[np.ndarray, "3"]
    brim: float  # how far it reaches down the forehead, in lengths of the nose above the brows
    width: float  # in widths of the face
    height: float  # in lengths of the nose


def draw_accessories(rng: np.random.Generator, variety: Variety) -> Accessories:
    """Random accessories for one clip."""
    wears_glasses, wears_hat = rng.random(2) < (variety.glasses, variety.hat)
    return Accessories(
        _draw_glasses(rng) if wears_glasses else None, _draw_hat(rng) if wears_hat else None, variety.occluder
    )


def _draw_glasses(rng: np.random.Generator) -> Glasses:
    dark = rng.random() < 0.15
    frames = np.array([[25, 22, 22], [70, 45, 30], [150, 145, 140], [120, 30, 30], [190, 160, 100]]) / 255.0
    return Glasses(
        color=frames[rng.integers(len(frames))] * rng.uniform(0.7, 1.2),
        lens=np.array([0.1, 0.09, 0.09]) if dark else rng.uniform(0.7, 1.0, 3),
        opacity=float(rng.uniform(0.75, 0.97) if dark else rng.uniform(0.0, 0.22)),
        width=float(rng.uniform(1.55, 2.0)),
        height=float(rng.uniform(0.55, 0.9)),
        corner=float(rng.choice([2.0, 2.6, 4.0])),
        thickness=float(rng.uniform(0.03, 0.1)),
    )


def _draw_hat(rng: np.random.Generator) -> Hat:
    return Hat(
        color=rng.random(3) * rng.uniform(0.1, 0.9),
        brim=float(rng.uniform(0.05, 0.6)),
        width=float(rng.uniform(1.15, 1.5)),
        height=float(rng.uniform(1.2, 2.4)),
    )


def put_on(
    image: Float[np.ndarray, "h w 3"],
    landmarks: Float[np.ndarray, "68 2"],
    worn: Accessories,
    rng: np.random.Generator,
) -> Float[np.ndarray, "h w 3"]:
    """One sRGB picture with the accessories over it; `landmarks` in pixels."""
    if worn.hat is not None:
        image = _hat(image, landmarks, worn.hat)
    if worn.glasses is not None:
        image = _glasses(image, landmarks, worn.glasses)
    if rng.random() < worn.occluder:
        image = _occluder(image, landmarks, rng)
    return image


def _over(image: np.ndarray, mask: np.ndarray, color: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    """`color` where the enlarged mask (0 to 255) is set."""
    size = image.shape[1::-1]
    alpha = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)[..., None].astype(np.float32) * (opacity / 255.0)
    return image + alpha * (np.asarray(color, np.float32) - image)


def _canvas(image: np.ndarray) -> np.ndarray:
    return np.zeros((image.shape[0] * DETAIL, image.shape[1] * DETAIL), np.uint8)


def _fill(canvas: np.ndarray, outline: Float[np.ndarray, "n 2"]) -> None:
    cv2.fillPoly(canvas, [np.round(outline * DETAIL).astype(np.int32)], 255)


def _point(place: Float[np.ndarray, "2"]) -> tuple[int, int]:
    """A place in pixels as a point of the enlarged canvas."""
    x, y = np.round(place * DETAIL).astype(int).tolist()
    return x, y


def _face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Down the nose, and across from the right eye to the left one, in pixels."""
    down = landmarks[NOSE_BASE] - landmarks[BRIDGE]
    across = landmarks[LEFT_EYE].mean(axis=0) - landmarks[RIGHT_EYE].mean(axis=0)
    return down, across


def _glasses(image: np.ndarray, landmarks: np.ndarray, glasses: Glasses) -> np.ndarray:
    down, across = _face_axes(landmarks)
    length = np.linalg.norm(down)
    frame, lenses = _canvas(image), _canvas(image)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = (np.sign(v) * np.abs(v) ** (2 / glasses.corner) for v in (np.cos(angle), np.sin(angle)))
    line = max(1, round(float(glasses.thickness * length * DETAIL)))
    for eye, ear, inner in ((RIGHT_EYE, 0, 39), (LEFT_EYE, 16, 42)):
        points = landmarks[eye]
        half_width = 0.5 * glasses.width * (points[3] - points[0])
        half_height = 0.5 * glasses.height * down
        center = points.mean(axis=0) + 0.12 * half_height
        outline = center + x[:, None] * half_width + y[:, None] * half_height
        _fill(lenses, outline)
        cv2.polylines(frame, [np.round(outline * DETAIL).astype(np.int32)], True, 255, line, cv2.LINE_AA)
        outer = outline[np.argmin(np.linalg.norm(outline - landmarks[ear], axis=1))]
        if np.linalg.norm(landmarks[ear] - landmarks[inner]) > np.linalg.norm(outer - landmarks[inner]):
            temple = landmarks[ear] - 0.25 * down
            cv2.line(frame, _point(outer), _point(temple), 255, line)
    bridge = landmarks[BRIDGE] + 0.1 * down
    reach = 0.14 * across
    cv2.line(frame, _point(bridge - reach), _point(bridge + reach), 255, line, cv2.LINE_AA)
    image = _over(image, lenses, glasses.lens, glasses.opacity)
    return _over(image, frame, glasses.color)


def _hat(image: np.ndarray, landmarks: np.ndarray, hat: Hat) -> np.ndarray:
    down, _ = _face_axes(landmarks)
    brows = landmarks[17:27].mean(axis=0)
    half = 0.5 * hat.width * (landmarks[16] - landmarks[0])
    base = brows - hat.brim * down
    angle = np.linspace(np.pi, 2 * np.pi, 24)
    dome = base + np.cos(angle)[:, None] * half + np.sin(angle)[:, None] * hat.height * down
    angle = np.linspace(0, np.pi, 24)
    edge = base + np.cos(angle)[:, None] * half + np.sin(angle)[:, None] * 0.18 * down
    canvas = _canvas(image)
    _fill(canvas, np.concatenate([dome, edge]))
    image = _over(image, canvas, hat.color)
    band = _canvas(image)
    cv2.polylines(
        band, [np.round(edge * DETAIL).astype(np.int32)], False, 255, max(1, int(0.2 * np.linalg.norm(down) * DETAIL))
    )
    return _over(image, band, hat.color * 0.6)


def _occluder(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hand, a cup or a microphone: a dark or skin-coloured blob somewhere over the lower face or beside it."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    size = float((high - low).max())
    center = low + rng.uniform([-0.1, 0.3], [1.1, 1.2]) * (high - low)
    axes = np.maximum(rng.uniform(0.08, 0.28, 2) * size, 1.0)
    canvas = _canvas(image)
    cv2.ellipse(canvas, _point(center), _point(axes), float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    kinds = np.array([[0.1, 0.1, 0.1], [0.75, 0.55, 0.45], [0.45, 0.3, 0.22], [0.6, 0.6, 0.6]])
    return _over(image, canvas, np.clip(kinds[rng.integers(4)] * rng.uniform(0.6, 1.3, 3), 0, 1))
