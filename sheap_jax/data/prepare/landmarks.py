"""Where the 68 landmarks of a frame come from: an `.npz` made before, or MediaPipe's Face Landmarker."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.command_line import silent_stderr
from sheap_jax.data.manifest import fingerprint
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.face_files import entry_of, path_key, read_arrays
from sheap_jax.data.prepare.face_search import FaceSearch
from sheap_jax.files.regular import why_not_regular

# Vertices of MediaPipe's 478-point mesh for each iBUG landmark: the mean of the pair. The jaw points are fixed places
# on the mesh, not the visible outline.
MEDIAPIPE_TO_68 = np.array([
    (127, 127), (234, 234), (93, 132), (132, 58), (58, 172), (136, 136), (150, 149), (176, 176), (152, 152),
    (400, 400), (379, 378), (365, 365), (288, 397), (361, 288), (323, 361), (454, 454), (356, 356),  # jaw
    (70, 70), (63, 63), (105, 105), (66, 66), (107, 107),  # right brow
    (336, 336), (296, 296), (334, 334), (293, 293), (300, 300),  # left brow
    (168, 168), (6, 197), (195, 5), (4, 4),  # bridge of the nose
    (75, 240), (97, 97), (2, 2), (326, 326), (305, 460),  # base of the nose
    (33, 33), (160, 160), (158, 158), (133, 133), (153, 153), (144, 144),  # right eye
    (362, 362), (385, 385), (387, 387), (263, 263), (373, 373), (380, 380),  # left eye
    (61, 61), (39, 39), (37, 37), (0, 0), (267, 267), (269, 269), (291, 291),  # outer lip, upper
    (321, 321), (314, 314), (17, 17), (84, 84), (91, 91),  # outer lip, lower
    (78, 78), (82, 82), (13, 13), (312, 312), (308, 308), (317, 317), (14, 14), (87, 87),  # inner lip
])  # fmt: skip
_SLIDING_JAW = np.array([*range(7), *range(10, 17)])  # the chin (7-9) stays where it is when the head turns
_FULL_YAW = np.radians(40.0)  # jaw points weigh nothing from here on
MOST_FACES = 32  # asked of the detector; with fewer it gives the surest faces, not the largest


class LandmarkSource(Protocol):
    """Landmarks of one clip after another, its frames in order. Picklable: every process has its own."""

    def describe(self) -> dict[str, Any]:
        """What decides the landmarks, in JSON values: for the manifest, and to know which results are still valid."""
        ...

    def start(self, clip: Clip) -> None:
        """Prepare for a clip; PrepareError if there is nothing for it."""
        ...

    def detect(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 68 2"]:
        """Landmarks in pixels of each face in frame `number`; there may be none."""
        ...

    def finish(self, frames: int) -> None:
        """Called with the number of frames that the clip turned out to have; PrepareError if that does not fit."""
        ...


class _Entry(NamedTuple):
    landmarks: Float[np.ndarray, "n k 68 2"]
    score: Float[np.ndarray, "n k"]
    row: int | None  # of a photograph; None: the rows are the frames of a video


class NpzLandmarks:
    """Landmarks from an `.npz`: names in `sets`, and for each set `<set>_files` [1 or N] and `<set>_lmk68` [N,68,2].

    A set with one file is a video, one row for each frame; otherwise each row belongs to one image file. Files are
    recognised by as much of their path as the archive states. With several faces the shape is [N,K,68,2]. NaN stands
    for no face; so does a value below `min_confidence` in the optional `<set>_score` [N] or [N,K].
    """

    def __init__(self, path: Path, *, min_confidence: float = 0.0) -> None:
        """ValueError if the archive lacks a key or a shape is wrong; names it."""
        self.path, self.min_confidence = path, min_confidence
        self.entries: dict[tuple[str, ...], _Entry] = {}
        arrays = read_arrays(path)
        for name in self._names(arrays, "sets"):
            landmarks, files = self._key(arrays, f"{name}_lmk68"), self._names(arrays, f"{name}_files")
            scores = arrays.get(f"{name}_score", np.ones(landmarks.shape[:-2]))
            if landmarks.shape[-2:] != (68, 2) or landmarks.ndim not in (3, 4) or len(files) not in (1, len(landmarks)):
                raise ValueError(f"{path}: {name}_lmk68 is {landmarks.shape} for {len(files)} files")
            if scores.shape != landmarks.shape[:-2]:
                raise ValueError(f"{path}: {name}_score is {scores.shape} for landmarks {landmarks.shape}")
            if landmarks.dtype.kind not in "fiu" or scores.dtype.kind not in "fiu":
                raise ValueError(f"{path}: {name}_lmk68 and {name}_score must be numbers")
            landmarks = landmarks.reshape(len(landmarks), -1, 68, 2).astype(np.float64)
            scores = scores.reshape(len(landmarks), -1)
            for row, file in enumerate(files):
                self.entries[path_key(file)] = _Entry(landmarks, scores, row if len(files) > 1 else None)
        self.clip: Clip | None = None

    def describe(self) -> dict[str, Any]:
        return {"landmarks": self.path.name, **fingerprint(self.path), "min_confidence": self.min_confidence}

    def _key(self, arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
        if key not in arrays:
            raise ValueError(f"{self.path} has no array {key!r}; see NpzLandmarks for the layout")
        return arrays[key]

    def _names(self, arrays: Mapping[str, np.ndarray], key: str) -> list[str]:
        names = np.atleast_1d(self._key(arrays, key))
        if names.dtype.kind != "U" or names.ndim != 1:
            raise ValueError(f"{self.path}: {key} must be an array of texts, it is {names.dtype} {names.shape}")
        return names.tolist()

    def start(self, clip: Clip) -> None:
        self.clip = clip
        self.frames = [self._find(file) for file in clip.files]

    def _find(self, file: Path) -> _Entry:
        entry = entry_of(file, self.entries)
        if entry is None:
            raise PrepareError(f"no landmarks for {file.name} in {self.path.name}")
        return entry

    def detect(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 68 2"]:
        assert self.clip is not None
        entry = self.frames[0 if self.clip.is_video else number]
        row = number if self.clip.is_video else (entry.row or 0)
        if row >= len(entry.landmarks):
            return np.zeros((0, 68, 2))  # `finish` reports the difference with both numbers
        points = entry.landmarks[row]
        return points[~np.isnan(points).any(axis=(1, 2)) & (entry.score[row] >= self.min_confidence)]

    def finish(self, frames: int) -> None:
        assert self.clip is not None
        expected = len(self.frames[0].landmarks) if self.clip.is_video else frames
        if expected != frames:
            raise PrepareError(f"has {frames} frames, but {self.path.name} has landmarks for {expected}")


class FaceLandmarker:
    """MediaPipe's Face Landmarker on each frame by itself: the largest faces of all that are found.

    It misses faces that are far away or lie on their side: `FaceSearch` asks it again. Its video mode smooths over
    time: the points then trail behind fast motion and depend on the stride.
    """

    def __init__(self, model: Path, *, max_faces: int = 1, min_confidence: float = 0.5) -> None:
        """Both of MediaPipe's scores, of the detected face and of the landmarks' face, must reach `min_confidence`.

        Raises ValueError if the model file is missing or another one, RuntimeError if mediapipe is not installed.
        """
        if not model.exists():
            raise ValueError(f"{model} does not exist: download face_landmarker.task from MediaPipe's model page")
        reason = why_not_regular(model)
        if reason is not None:
            raise ValueError(f"{model} {reason}")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise RuntimeError(
                f"mediapipe cannot be imported ({error}): pip install 'sheap-jax[prepare]', or make landmarks "
                "elsewhere and pass them with --landmarks"
            ) from error
        self.model, self.max_faces, self.min_confidence = model, max_faces, min_confidence
        self._mediapipe = mediapipe
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            num_faces=MOST_FACES,
            min_face_detection_confidence=min_confidence,
            min_face_presence_confidence=min_confidence,
        )
        try:
            with silent_stderr():
                self._detector = vision.FaceLandmarker.create_from_options(options)
                self._detect_once(np.zeros((64, 64, 3), np.uint8))  # only then has all of it started
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{model} cannot be used as MediaPipe's face_landmarker.task ({error}): download it again"
            ) from error
        self._search = FaceSearch(self._detect_once)

    def __reduce__(self) -> Any:
        options = {"max_faces": self.max_faces, "min_confidence": self.min_confidence}
        return functools.partial(FaceLandmarker, **options), (self.model,)

    def describe(self) -> dict[str, Any]:
        version = f"mediapipe {self._mediapipe.__version__}"
        options = {"max_faces": self.max_faces, "min_confidence": self.min_confidence}
        return {"landmarks": version, **fingerprint(self.model), **options, "search": "turned, in tiles"}

    def start(self, clip: Clip) -> None:
        self._search.start()

    def detect(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 68 2"]:
        return self._search.find(image)[: self.max_faces]

    def _detect_once(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 68 2"]:
        frame = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        height, width = image.shape[:2]
        meshes = self._detector.detect(frame).face_landmarks
        faces = [mediapipe_to_68(np.array([(p.x * width, p.y * height) for p in mesh])) for mesh in meshes]
        return np.array(faces).reshape(-1, 68, 2)

    def finish(self, frames: int) -> None:
        """Nothing to do: every frame was given."""

    def close(self) -> None:
        """Free the detector; left to the interpreter's end, mediapipe prints an error there."""
        self._detector.close()


def mediapipe_to_68(mesh: Float[np.ndarray, "478 d"]) -> Float[np.ndarray, "68 d"]:
    """The iBUG landmarks of MediaPipe's mesh."""
    return mesh[MEDIAPIPE_TO_68].mean(axis=1)


def landmark_yaw(landmarks: Float[np.ndarray, "68 2"]) -> float:
    """Rough yaw in radians from the tip of the nose between the outer eye corners; the sign is the image's.

    On an average head the tip stands as far in front of the corners as they stand from the middle, hence
    offset / half distance = tan(yaw), whatever the roll.
    """
    right, left, tip = landmarks[36], landmarks[45], landmarks[30]
    half = (left - right) / 2
    return float(np.arctan2((tip - (left + right) / 2) @ half, half @ half))


def landmark_weights(landmarks: Float[np.ndarray, "68 2"], *, height: int, width: int) -> Float[np.ndarray, "68"]:
    """Trust in each landmark: 0 outside the image; jaw points fall from 1 in a frontal view to 0 at 40 degrees of yaw.

    The jaw points of a turned head are fixed places for one detector and the visible outline for another.
    """
    weights = np.ones(68, np.float32)
    weights[_SLIDING_JAW] = max(0.0, 1.0 - abs(landmark_yaw(landmarks)) / _FULL_YAW)
    inside = ((landmarks >= 0) & (landmarks <= (width, height))).all(axis=1)
    return weights * inside
