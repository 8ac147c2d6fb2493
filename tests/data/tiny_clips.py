"""Small records with known pixels, for the tests of the data pipeline."""

import zlib

import cv2
import numpy as np

from sheap_jax.data.records import Record

SIZE = 16  # pixels
CLIPS = {"ann": {"a0": 3, "a1": 2}, "ben": {"b0": 4}, "cay": {"c0": 1, "c1": 1}, "dan": {"d0": 1}}  # frames per clip


def make_record(identity: str, clip: str, frame: int, **changes) -> Record:
    """A smooth picture that only this record has, with random landmarks inside it."""
    generator = np.random.default_rng(zlib.crc32(f"{identity}/{clip}/{frame}".encode()))
    corners = generator.integers(40, 200, (2, 2, 3), np.uint8)
    image = cv2.resize(corners, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    landmarks = generator.uniform(0, SIZE, (68, 2)).astype(np.float32)
    weights = generator.uniform(0.1, 1, 68).astype(np.float32)
    return Record(identity, clip, frame, jpeg, landmarks, weights)._replace(**changes)


def make_records(clips: dict[str, dict[str, int]] = CLIPS) -> list[Record]:
    """All frames of all clips; frame numbers 0, 2, 4, ..."""
    return [
        make_record(identity, clip, 2 * i)
        for identity, parts in clips.items()
        for clip, count in parts.items()
        for i in range(count)
    ]


def decode_rgb(jpeg: bytes) -> np.ndarray:
    """Pixels of a JPEG, by OpenCV."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
