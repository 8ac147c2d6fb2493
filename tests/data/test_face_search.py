"""Searching for faces with a detector that has the limits of a real one."""

import cv2
import numpy as np
import pytest

from sheap_jax.cropping import crop_image, upright_box
from sheap_jax.data.prepare.face_search import FaceSearch
from tests.data.tiny_videos import face_points

FACE = face_points() - 70.0  # about its middle, 50 pixels high
MARKS = {36: 0, 45: 1, 30: 2}  # landmarks that are drawn, and the colour channel of each
REACH = 0.12  # of the longer side


def draw(height: int, width: int, center: tuple[float, float], *, scale: float, turn: float) -> tuple:
    """A picture with a face turned by `turn` degrees counterclockwise, and its landmarks."""
    angle = np.radians(turn)
    matrix = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = FACE @ matrix.T + center
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3), np.uint8)
    for index, channel in MARKS.items():
        image[..., channel] = 255 * (np.hypot(x - points[index, 0], y - points[index, 1]) < 3 * scale)
    return image, points


class Detector:
    """Knows faces that are large enough; takes what is turned by more than 100 degrees for something upright."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.passes += 1
        y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
        weights = [image[..., channel].astype(float) for channel in MARKS.values()]
        if min(weight.sum() for weight in weights) < 255 * 4:
            return np.zeros((0, 68, 2))
        marks = np.array([[(weight * x).sum(), (weight * y).sum()] / weight.sum() for weight in weights])
        known = FACE[list(MARKS)]
        eyes, expected = marks[1] - marks[0], known[1] - known[0]
        scale = np.linalg.norm(eyes) / np.linalg.norm(expected)
        turn = np.arctan2(-eyes[1], eyes[0])
        if scale * np.ptp(FACE[:, 1]) < REACH * max(image.shape):
            return np.zeros((0, 68, 2))
        turn = 0.0 if abs(turn) > np.radians(100) else turn
        matrix = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return ((FACE - known[2]) @ matrix.T + marks[2])[None]


@pytest.mark.parametrize("turn", [0, 30, -80, 130, 180, -150])
def test_a_face_keeps_its_landmarks_however_it_is_turned(turn):
    image, points = draw(300, 400, (210.0, 160.0), scale=2.0, turn=turn)
    detector = Detector()
    (found,) = FaceSearch(detector).find(image)
    np.testing.assert_allclose(found, points, atol=3.0)
    assert detector.passes <= 10


@pytest.mark.parametrize(("side", "center"), [(70, (300.0, 200.0)), (45, (700.0, 60.0)), (45, (91.0, 411.0))])
def test_a_far_face_is_found_in_a_tile(side, center):
    image, points = draw(540, 960, center, scale=side / 50, turn=10.0)
    detector = Detector()
    assert len(detector(image)) == 0
    (found,) = FaceSearch(detector).find(image)
    np.testing.assert_allclose(found, points, atol=2.0)


def test_the_search_is_bounded():
    detector = Detector()
    assert FaceSearch(detector).find(np.zeros((540, 960, 3), np.uint8)).shape == (0, 68, 2)
    assert detector.passes == 1 + 3 + 6 + 15
    detector = Detector()
    FaceSearch(detector).find(np.zeros((60, 80, 3), np.uint8))
    assert detector.passes == 4, "tiles of a small picture would hold blots"


def test_a_face_of_the_frame_before_is_not_looked_for_again():
    detector = Detector()
    search = FaceSearch(detector)
    passes = []
    for frame in range(4):
        image, points = draw(540, 960, (300.0 + 3 * frame, 200.0), scale=1.4, turn=0.0)
        before = detector.passes
        (found,) = search.find(image)
        np.testing.assert_allclose(found, points, atol=2.0)
        passes.append(detector.passes - before)
    assert passes[0] > 4
    assert passes[1:] == [2, 2, 2], "the whole picture, then where the face was"
    search.start()
    before = detector.passes
    search.find(image)
    assert detector.passes - before == passes[0]


def test_what_moves_when_it_is_tilted_is_no_face():
    """A detector that sees the same face in the middle of everything."""

    def fancy(image: np.ndarray) -> np.ndarray:
        return (FACE + np.array(image.shape[1::-1]) * (0.4, 0.6))[None]

    assert len(FaceSearch(fancy).find(np.zeros((100, 100, 3), np.uint8))) == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_crop_of_a_turned_head_stands(turns):
    image, points = draw(300, 400, (210.0, 160.0), scale=2.0, turn=0.0)
    expected = crop_image(image, upright_box(points), 96)
    turned, landmarks = draw(300, 400, (210.0, 160.0), scale=2.0, turn=90.0 * turns)
    box = upright_box(landmarks)
    assert box.turns == -turns % 4
    found = crop_image(turned, box, 96)
    assert cv2.absdiff(np.ascontiguousarray(found), np.ascontiguousarray(expected)).mean() < 0.3


def test_real_faces(shared_data, shared_trials):
    pytest.importorskip("mediapipe", reason="needs mediapipe: pip install 'sheap-jax[prepare]'")
    from sheap_jax.data.photographs import read_photograph
    from sheap_jax.data.prepare.landmarks import FaceLandmarker
    from sheap_jax.data.prepare.quality import face_box

    detector = FaceLandmarker(shared_data / "models/face_landmarker.task")
    two = detector.detect(0, read_photograph(shared_trials / "two_faces.png"))
    assert face_box(two[0]).center[0] > 400, "the larger one is to the right"
    far = detector.detect(0, read_photograph(shared_trials / "far_face_1280.jpg"))
    np.testing.assert_allclose(face_box(far[0]).center, (606, 334), atol=10)
    for file in ("astronaut.png", "grace_hopper.jpg"):
        image = read_photograph(shared_data / "faces/public_domain" / file)
        (upright,) = detector.detect(0, image)
        detector._search.start()
        for turns in (1, 2, 3):
            height, width = image.shape[:2]
            center = np.array([width, height]) / 2
            matrix = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turns)
            expected = (upright - center) @ matrix.T + (center if turns == 2 else center[::-1])
            detector._search.start()
            (found,) = detector.detect(0, np.ascontiguousarray(np.rot90(image, turns)))
            distance = np.linalg.norm(found - expected, axis=1).mean()
            assert distance < 0.05 * face_box(upright).side
    detector.close()
