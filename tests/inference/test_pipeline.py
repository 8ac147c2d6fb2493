"""Batches across clips, order, and what a failure leaves behind."""

import threading

import cv2
import numpy as np
import pytest

from sheap_jax.data.prepare.landmarks import NpzLandmarks
from sheap_jax.inference import head_geometry
from sheap_jax.inference.faces import LandmarkFaces, WholePicture
from sheap_jax.inference.inputs import Failure, find_inputs
from sheap_jax.inference.pipeline import BATCH, Prediction, ahead, predict_clips
from tests.data.tiny_videos import face_points, write_video
from tests.inference.fake_predictor import SIZE, FakePredictor, write_face, write_photograph_landmarks


def test_batches_are_filled_across_clips_and_results_keep_their_order(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (BATCH + 5, 3))
    for number, color in enumerate(colors):
        write_face(tmp_path / f"{number:02d}.png", tuple(color))
    write_video(tmp_path / "05.mp4", 7)
    (tmp_path / "03-bad.png").write_text("text")
    predictor, counted = FakePredictor(), []
    clips = find_inputs([str(tmp_path)]).clips
    results = list(predict_clips(predictor, clips, WholePicture(), size=SIZE, workers=3, progress=counted.append))
    assert [isinstance(result, Failure) for result in results] == [clip.path.name == "03-bad.png" for clip in clips]
    assert predictor.batches == counted == [BATCH, 5 + 7]
    for clip, result in zip(clips, results, strict=True):
        if isinstance(result, Prediction):
            assert result.footage.clip == clip
            if clip.is_video:
                np.testing.assert_array_equal(result.frame, np.arange(7))
                assert (result.footage.frames, result.footage.rate) == (7, pytest.approx(25.0))
            else:
                np.testing.assert_allclose(result.head.shape[0] * 255, colors[int(clip.path.stem)], atol=1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_head_that_lies_on_its_side_keeps_its_roll(tmp_path, turns):
    """The network sees it upright; what it predicts lies in the picture as the picture was turned."""
    points = np.stack([face_points()])
    results = []
    for name, quarter in (("upright", 0), ("turned", turns)):
        write_face(tmp_path / f"{name}.png", (200, 30, 90))
        image, landmarks, width = cv2.imread(str(tmp_path / f"{name}.png")), points, 160
        for _ in range(quarter):  # counterclockwise
            landmarks = np.stack([landmarks[..., 1], width - landmarks[..., 0]], axis=-1)
            image = np.rot90(image)
            width = image.shape[1]
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        write_photograph_landmarks(tmp_path / "l.npz", {f"{name}.png": landmarks[0]})
        clips = find_inputs([str(tmp_path / f"{name}.png")]).clips
        finder = LandmarkFaces(NpzLandmarks(tmp_path / "l.npz"))
        results += predict_clips(FakePredictor(), clips, finder, size=SIZE)
    pixels = []
    for result in results:
        vertices = head_geometry.posed_heads(FakePredictor.model, result.head).vertices
        pixels.append(head_geometry.project_points(head_geometry.picture_cameras(result.box).matrix, vertices)[0])
    upright, turned = results
    np.testing.assert_allclose(turned.head.shape, upright.head.shape, atol=0.01)
    expected, width, height = pixels[0], 160, 120
    for _ in range(turns):
        expected = np.stack([expected[:, 1], width - expected[:, 0]], axis=-1)
        width, height = height, width
    np.testing.assert_allclose(pixels[1], expected, atol=0.01)
    roll = np.degrees(np.linalg.norm(turned.head.rotations[0, 0]))
    assert roll == pytest.approx({1: 90, 2: 180, 3: 90}[turns], abs=1e-3)
    assert np.sign(turned.head.rotations[0, 0, 2]) == (-1 if turns == 3 else 1) or turns == 2


def test_an_error_of_the_network_reaches_the_caller(tmp_path):
    write_face(tmp_path / "a.png", (1, 2, 3))

    def broken(images):
        raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        list(predict_clips(broken, find_inputs([str(tmp_path)]).clips, WholePicture(), size=SIZE))


def test_ahead_keeps_order_and_stops_with_its_reader():
    made = []

    def numbers():
        for number in range(1000):
            made.append(number)
            yield number

    before = threading.active_count()
    reader = ahead(numbers(), depth=3)
    assert [next(reader) for _ in range(5)] == list(range(5))
    reader.close()
    assert threading.active_count() == before
    assert len(made) < 20


def test_ahead_raises_what_its_thread_raises():
    def one_then_error():
        yield 1
        raise RuntimeError("the disk is gone")

    reader = ahead(one_then_error(), depth=3)
    assert next(reader) == 1
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(reader)
