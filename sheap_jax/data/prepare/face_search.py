"""Faces that a detector of landmarks misses or mistakes: far ones, and those that lie on their side or upside down.

MediaPipe's detector shrinks the whole picture to 128 pixels and knows upright faces. We measured that it finds faces
turned by up to 90 degrees whose landmarks' box is 0.12 of the picture's longer side (one in ten at 0.10). It mostly
takes a face that is upside down for an upright one with wrong features. Such landmarks move when the picture is tilted
by 20 degrees: by 0.067 of their box or more in 59 pictures. True ones moved by 0.06 at most in 148 pictures.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

Landmarks = Float[np.ndarray, "68 2"]
Detect = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "k 68 2"]]

STEADY, DOUBTFUL = 0.065, 0.15  # how far landmarks may move in sides of their box: surely true, perhaps true
_TILTS = (0.0, np.radians(20.0), np.radians(-20.0))  # at which a found face is looked at again
_AROUND = 3.0  # side of such a view in sides of the landmarks' box
_VIEW_SIZES = (192, 512)  # pixels of its side, at least and at most
_WHOLE = 1024  # pixels of the longer side of the whole picture turned
TILES = ((2, 0.5), (4, 0.25))  # the longer side over a tile's, and how much neighbours share: faces from 0.06, 0.03
_SAME_FACE = 0.5  # how far a face may have moved and grown since the last frame to be the same, in sides of its box


class View(NamedTuple):
    """A piece of a picture: `matrix` maps the picture's pixels to the view's."""

    matrix: Float[np.ndarray, "2 3"]
    size: tuple[int, int]  # width, height

    def cut(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        """The pixels; black outside the picture."""
        import cv2

        linear, shift = self.matrix[:, :2], self.matrix[:, 2]
        scale = np.sqrt(abs(np.linalg.det(linear)))
        if scale < 0.5:  # bilinear sampling alone would skip pixels: shrink by area first
            old = np.array(image.shape[1::-1])
            new = np.maximum(1, np.round(old * scale * 1.5)).astype(int)
            image = cv2.resize(image, (int(new[0]), int(new[1])), interpolation=cv2.INTER_AREA)
            linear = linear * (old / new)
        # cv2 puts the centre of the first pixel at 0, we put it at 0.5.
        matrix = np.c_[linear, shift + linear.sum(axis=1) * 0.5 - 0.5]
        return cv2.warpAffine(image, matrix, self.size, flags=cv2.INTER_LINEAR)

    def back(self, points: Float[np.ndarray, "*k 68 2"]) -> Float[np.ndarray, "*k 68 2"]:
        """Points of the view in the picture."""
        return (points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


class FaceSearch:
    """Finds all faces of one picture after another, and asks the detector again where it may be wrong.

    A face of the whole picture counts if it stays where it is when the picture is tilted, or if the frame before had
    it. If there is none, the search goes on: around the faces of the last frame, in the picture turned by quarters,
    then in tiles.
    At most 1 + 3 + tiles passes (6 + 15 at 16:9) for a picture without a face, and 4 more for each face found.
    """

    def __init__(self, detect: Detect) -> None:
        self._detect = detect
        self.start()

    def start(self) -> None:
        """Forget the frame before."""
        self._known: list[Landmarks] = []

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 68 2"]:
        """Landmarks of each face, the largest first."""
        faces = [face for found in self._detect(image) if (face := self._checked(image, found)) is not None]
        for views in self._further_views(image) if not faces else ():
            faces = self._in_views(image, views)
            if faces:
                break
        self._known = faces = [self._seen_level(image, face) for face in faces]
        return np.array(sorted(faces, key=_side, reverse=True)).reshape(-1, 68, 2)

    def _further_views(self, image: UInt8[np.ndarray, "h w 3"]) -> Iterator[list[View]]:
        """What to look at instead of the whole picture, the most promising first."""
        yield [_view_around(face, 0.0) for face in self._known]
        yield [_turned_picture(image, turns) for turns in (2, 1, 3)]
        for parts, shared in TILES:
            yield _tiles(image, parts, shared)

    def _in_views(self, image: UInt8[np.ndarray, "h w 3"], views: list[View]) -> list[Landmarks]:
        """The faces of all views that pass the check, each once."""
        faces: list[Landmarks] = []
        for view in views:
            for found in view.back(self._detect(view.cut(image))):
                is_new = not any(_is_same(face, found) for face in faces)
                if is_new and self._is_known_or_steady(image, found):
                    faces.append(found)
        return faces

    def _checked(self, image: UInt8[np.ndarray, "h w 3"], found: Landmarks) -> Landmarks | None:
        """The face itself if it is true, else the true face that is seen when it is turned, else None."""
        if self._is_known_or_steady(image, found):
            return found
        for turn in (np.pi, np.pi / 2, -np.pi / 2):
            view = _view_around(found, turn)
            for other in view.back(self._detect(view.cut(image))):
                if self._movement(image, other, most=STEADY) <= STEADY:
                    return other
        return found if self._movement(image, found, most=DOUBTFUL) <= DOUBTFUL else None

    def _is_known_or_steady(self, image: UInt8[np.ndarray, "h w 3"], face: Landmarks) -> bool:
        if any(_is_same(known, face) for known in self._known):
            return True
        return self._movement(image, face, most=STEADY) <= STEADY

    def _seen_level(self, image: UInt8[np.ndarray, "h w 3"], face: Landmarks) -> Landmarks:
        """Better landmarks for a face that lies on its side: those of the upright view. Other faces stay the same."""
        if abs(_roll(face)) <= np.pi / 4:
            return face
        view = _view_around(face, 0.0)
        again = [other for other in view.back(self._detect(view.cut(image))) if _is_same(face, other)]
        return again[0] if again else face

    def _movement(self, image: UInt8[np.ndarray, "h w 3"], face: Landmarks, *, most: float) -> float:
        """How far the landmarks move at most when the face is seen level and tilted. Stops once that exceeds `most`."""
        moved = 0.0
        for tilt in _TILTS:
            view = _view_around(face, tilt)
            again = view.back(self._detect(view.cut(image)))
            distances = [np.linalg.norm(points - face, axis=1).mean() / _side(face) for points in again]
            moved = max(moved, min(distances, default=np.inf))
            if moved > most:
                break
        return moved


def _view_around(face: Landmarks, tilt: float) -> View:
    """The square about a face, turned so that its eyes are level, then by `tilt` radians counterclockwise."""
    angle = _roll(face) + tilt
    side = _AROUND * _side(face)
    pixels = int(np.clip(side, *_VIEW_SIZES))
    cosine, sine = pixels / side * np.cos(angle), pixels / side * np.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    center = (face.min(axis=0) + face.max(axis=0)) / 2
    return View(np.c_[matrix, pixels / 2 - matrix @ center], (pixels, pixels))


def _turned_picture(image: UInt8[np.ndarray, "h w 3"], turns: int) -> View:
    """The whole picture after quarter turns, shrunk: the detector would not see more."""
    height, width = image.shape[:2]
    scale = min(1.0, _WHOLE / max(height, width))
    cosine, sine = ((scale, 0.0), (0.0, scale), (-scale, 0.0), (0.0, -scale))[turns]
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    low = np.min([matrix @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))], axis=0)
    size = np.maximum(1, np.round(np.abs(matrix) @ (width, height))).astype(int)
    return View(np.c_[matrix, -low], (int(size[0]), int(size[1])))


def _tiles(image: UInt8[np.ndarray, "h w 3"], parts: int, shared: float) -> list[View]:
    """Squares that cover the picture, each 1 / `parts` of its longer side; neighbours share at least `shared` of it."""
    height, width = image.shape[:2]
    side = max(height, width) / parts
    if side < _VIEW_SIZES[0] / 2:
        return []  # faces of it would be blots
    starts = []
    for length in (width, height):
        count = 1 + int(np.ceil(max(0.0, length - side) / ((1.0 - shared) * side) - 1e-9))
        starts.append(np.linspace(0.0, length - side, count) if count > 1 else np.array([(length - side) / 2]))
    scale = min(1.0, _WHOLE / side)
    pixels = round(scale * side)
    corners = [(x, y) for y in starts[1] for x in starts[0]]
    return [View(np.array([[scale, 0.0, -scale * x], [0.0, scale, -scale * y]]), (pixels, pixels)) for x, y in corners]


def _roll(face: Landmarks) -> float:
    """The angle of the eyes' line in radians, clockwise in the picture."""
    eyes = face[45] - face[36]
    return float(np.arctan2(eyes[1], eyes[0]))


def _side(face: Landmarks) -> float:
    return float(np.ptp(face, axis=0).max())


def _is_same(before: Landmarks, now: Landmarks) -> bool:
    """Whether two sets of landmarks are of one face that hardly moved."""
    return float(np.linalg.norm(now - before, axis=1).max()) < _SAME_FACE * min(_side(before), _side(now))
