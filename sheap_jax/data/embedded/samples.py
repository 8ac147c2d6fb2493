"""A picture of 32 samples, to judge a data set by eye."""

from pathlib import Path

import numpy as np

from sheap_jax.data.embedded.clip import PersonClips
from sheap_jax.files.pictures import save_picture

ROWS, COLUMNS = 4, 8
_SHOWN = (*range(0, 17, 4), 21, 22, 30, *range(36, 48, 3), 48, 51, 54, 57)  # landmarks drawn


class SampleSheet:
    """One frame of each of the first 32 people, or more frames of fewer people. The last column shows landmarks."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.first: list[np.ndarray] = []
        self.spare: list[np.ndarray] = []

    def add(self, clips: PersonClips) -> None:
        """Take one frame of a person, and keep the others in case that there are few people."""
        room = ROWS * COLUMNS
        if len(self.first) < room:
            chosen = len(self.first) % len(clips.records)
            order = [chosen, *(i for i in range(len(clips.records)) if i != chosen)]
            marked = len(self.first) % COLUMNS == COLUMNS - 1
            self.first.append(_decode(clips, order[0], marked))
            if len(self.spare) < room:
                self.spare += [_decode(clips, i, False) for i in order[1:]]

    def save(self, path: Path) -> None:
        tiles = (self.first + self.spare)[: ROWS * COLUMNS]
        blank = np.full((self.image_size, self.image_size, 3), 255, np.uint8)
        tiles += [blank] * (ROWS * COLUMNS - len(tiles))
        rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
        save_picture(np.vstack(rows), path)


def _decode(clips: PersonClips, i: int, marked: bool) -> np.ndarray:
    import cv2

    record = clips.records[i]
    image = np.asarray(cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR))
    if marked:
        for x, y in record.landmarks[list(_SHOWN)]:
            cv2.circle(image, (int(x), int(y)), 1, (80, 255, 80), -1)
    return image[..., ::-1]
