"""One stored frame: its fields and its bytes (a versioned msgpack message)."""

from typing import NamedTuple, cast

import msgpack
import numpy as np
from jaxtyping import Float32

FORMAT_VERSION = 1
NUM_LANDMARKS = 68


class ShardError(RuntimeError):
    """A split, shard or record is missing or damaged; the message names it and the way out."""


class Record(NamedTuple):
    """One face crop with its detected landmarks."""

    identity: str
    clip: str
    frame: int
    image: bytes  # JPEG, RGB, square
    landmarks: Float32[np.ndarray, "l 2"]  # pixels of that image, iBUG order
    weights: Float32[np.ndarray, "l"]  # 0 for landmarks that were not detected

    @property
    def key(self) -> str:
        """The name of the record in messages."""
        return f"{self.identity}/{self.clip}/{self.frame}"


def encode_record(record: Record) -> bytes:
    """One record as a msgpack message.

    Raises:
      ValueError: the landmarks or weights have another shape or the image is no JPEG; names the record.
    """
    landmarks = np.asarray(record.landmarks, "<f4")
    weights = np.asarray(record.weights, "<f4")
    if landmarks.shape != (NUM_LANDMARKS, 2) or weights.shape != (NUM_LANDMARKS,):
        raise ValueError(
            f"record {record.key}: landmarks {landmarks.shape} and weights {weights.shape}, "
            f"expected ({NUM_LANDMARKS}, 2) and ({NUM_LANDMARKS},)"
        )
    if not record.image.startswith(b"\xff\xd8"):
        raise ValueError(f"record {record.key}: the image is not a JPEG file")
    message = {
        "version": FORMAT_VERSION,
        "identity": record.identity,
        "clip": record.clip,
        "frame": int(record.frame),
        "image": record.image,
        "landmarks": landmarks.tobytes(),
        "weights": weights.tobytes(),
    }
    return cast(bytes, msgpack.packb(message))


def decode_record(data: bytes) -> Record:
    """The inverse of `encode_record`.

    Raises:
      ShardError: the message is damaged or of another format version.
    """
    try:
        message = msgpack.unpackb(data)
        version = message["version"]
    except Exception as error:
        raise ShardError(f"not a readable record: {error}") from error
    if version != FORMAT_VERSION:
        raise ShardError(f"format version {version}, this code reads {FORMAT_VERSION}: prepare it again")
    try:
        kinds = {"identity": str, "clip": str, "frame": int, "image": bytes}
        wrong = [name for name, kind in kinds.items() if type(message[name]) is not kind]
        if wrong:
            raise ValueError(f"{wrong[0]} is of another kind")
        return Record(
            identity=message["identity"],
            clip=message["clip"],
            frame=message["frame"],
            image=message["image"],
            landmarks=np.frombuffer(message["landmarks"], "<f4").reshape(NUM_LANDMARKS, 2),
            weights=np.frombuffer(message["weights"], "<f4").reshape(NUM_LANDMARKS),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ShardError(f"a field is missing or damaged: {error}") from error
