"""Decoding: the right pixels at the right size, and a name for every frame that cannot be used."""

import sys

import cv2
import numpy as np
import pytest
from tiny_clips import SIZE, decode_rgb, make_record, make_records

from sheap_jax.data import frames
from sheap_jax.data.frames import decode_frame, frame_batches
from sheap_jax.data.records import ShardError, write_split


def test_full_size_frame_is_the_jpeg():
    record = make_record("ann", "a0", 0)
    frame = decode_frame(record, image_size=SIZE)
    assert frame.image.dtype == np.float32
    np.testing.assert_allclose(frame.image, decode_rgb(record.image) / 255.0, atol=1e-6)
    np.testing.assert_array_equal(frame.landmarks, record.landmarks)
    np.testing.assert_array_equal(frame.landmark_weight, record.weights)


def test_half_size_is_the_mean_of_four_pixels():
    record = make_record("ann", "a0", 0)
    frame = decode_frame(record, image_size=SIZE // 2)
    means = decode_rgb(record.image).reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(frame.image * 255, means, atol=0.51)  # rounded to whole levels
    np.testing.assert_allclose(frame.landmarks, record.landmarks / 2, rtol=1e-6)


def test_enlarged_frame_keeps_landmarks_on_their_pixels():
    record = make_record("ann", "a0", 0)
    frame = decode_frame(record, image_size=3 * SIZE)
    # The centre of pixel (5, 9) of the original is the centre of pixel (16, 28) of the enlarged one.
    np.testing.assert_allclose(frame.image[28, 16] * 255, decode_rgb(record.image)[9, 5], atol=1.0)
    np.testing.assert_allclose(frame.landmarks, record.landmarks * 3, rtol=1e-6)


def test_without_simplejpeg_opencv_decodes_the_same(monkeypatch):
    record = make_record("ann", "a0", 0)
    expected = decode_frame(record, image_size=SIZE).image
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    frames._jpeg_decoder.cache_clear()
    try:
        assert frames._jpeg_decoder() is frames._decode_with_opencv
        np.testing.assert_allclose(decode_frame(record, image_size=SIZE).image, expected, atol=1.01 / 255)
        with pytest.raises(ShardError, match="cannot be decoded"):
            decode_frame(record._replace(image=b"\xff\xd8 broken"), image_size=SIZE)
    finally:
        frames._jpeg_decoder.cache_clear()


def test_landmarks_far_outside_lose_their_weight():
    landmarks = np.full((68, 2), SIZE / 2, np.float32)
    landmarks[0] = (-SIZE + 0.5, 2 * SIZE - 0.5)  # outside, by less than one image size
    landmarks[1] = (-SIZE - 0.5, 3.0)
    landmarks[2] = (3.0, 2 * SIZE + 0.5)
    record = make_record("ann", "a0", 0, landmarks=landmarks, weights=np.ones(68, np.float32))
    weights = decode_frame(record, image_size=SIZE // 2).landmark_weight
    assert np.flatnonzero(weights == 0).tolist() == [1, 2]
    assert record.weights.all()  # the record itself is left alone


def wide_jpeg() -> bytes:
    return cv2.imencode(".jpg", np.zeros((8, 12, 3), np.uint8))[1].tobytes()


def jpeg_that_states(side: int) -> bytes:
    """A small JPEG whose header asks for the memory of a large one."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": make_record("ann", "a0", 0).image[:60]}, "cannot be decoded"),
        ({"image": wide_jpeg()}, "12 x 8 pixels, crops must be square"),
        ({"image": jpeg_that_states(60_000)}, "60000 pixels a side, at most 4096 are read"),
        ({"landmarks": np.full((68, 2), np.nan, np.float32)}, "not finite"),
        ({"weights": np.full(68, np.inf, np.float32)}, "not finite"),
    ],
)
def test_unusable_frame_is_named(changes, words):
    with pytest.raises(ShardError, match=f"ann/a0/4: .*{words}"):
        decode_frame(make_record("ann", "a0", 4, **changes), image_size=SIZE)


def test_frame_batches_give_every_frame_once_in_order(tmp_path):
    records = make_records()
    write_split(tmp_path, "val", records, settings={}, records_per_shard=5)
    batches = list(frame_batches(tmp_path, "val", batch_size=5, image_size=SIZE))
    assert [batch.frame.image.shape for batch in batches] == [(5, SIZE, SIZE, 3)] * 3
    assert [batch.valid.tolist() for batch in batches] == [[True] * 5, [True] * 5, [True, True, False, False, False]]
    assert np.concatenate([batch.record[batch.valid] for batch in batches]).tolist() == list(range(12))
    for batch in batches:
        for i, image, landmarks in zip(batch.record, batch.frame.image, batch.frame.landmarks, strict=True):
            np.testing.assert_allclose(image, decode_rgb(records[i].image) / 255.0, atol=1e-6)
            np.testing.assert_array_equal(landmarks, records[i].landmarks)


def test_frame_batches_stop_at_an_unusable_record(tmp_path):
    bad = make_record("ben", "b0", 2, image=b"\xff\xd8 broken")
    records = [bad if (r.identity, r.frame) == ("ben", 2) else r for r in make_records()]
    write_split(tmp_path, "val", records, settings={})
    with pytest.raises(ShardError, match="ben/b0/2"):
        list(frame_batches(tmp_path, "val", batch_size=4, image_size=SIZE))
