"""Batches across clips, order, and what a failure leaves behind."""

import threading

import numpy as np
import pytest

from sheap_jax.inference.faces import WholePicture
from sheap_jax.inference.inputs import Failure, find_inputs
from sheap_jax.inference.pipeline import BATCH, Prediction, ahead, predict_clips
from tests.data.tiny_videos import write_video
from tests.inference.fake_predictor import SIZE, FakePredictor, write_face


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
