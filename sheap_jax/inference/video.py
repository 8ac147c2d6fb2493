"""Pictures to a video file or a folder of PNGs."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sheap_jax.inference.whole_file import whole_file


def write_frames(path: str | Path, frames: Iterable[Float[np.ndarray, "h w 3"]], *, fps: float) -> int:
    """Write RGB pictures in [0, 1], all of one size, as they come; returns how many.

    A path that ends in .mp4 gets an MPEG-4 video, any other becomes a folder of 000000.png, 000001.png, ...

    Raises ValueError if there is no frame; OSError if nothing can be written there.
    """
    path, iterator = Path(path), iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"{path}: there is no frame to write")
    write = _write_video if path.suffix.lower() == ".mp4" else _write_folder
    return write(path, chain([first], iterator), fps)


def _write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    import cv2

    count, writer = 0, cv2.VideoWriter()
    with whole_file(path) as temporary:
        try:
            for frame in frames:
                size = frame.shape[1::-1]
                if not (writer.isOpened() or writer.open(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)):
                    raise OSError(f"{path} cannot be written as a video of {size[0]} x {size[1]} pixels")
                writer.write(_bgr_bytes(frame))
                count += 1
        finally:
            writer.release()
    return count


def _write_folder(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    import cv2

    path.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame in frames:
        with whole_file(path / f"{count:06d}.png") as temporary:
            if not cv2.imwrite(str(temporary), _bgr_bytes(frame)):
                raise OSError(f"{path} cannot be written to")
        count += 1
    return count


def _bgr_bytes(frame: Float[np.ndarray, "h w 3"]) -> np.ndarray:
    return np.round(255 * np.clip(frame[..., ::-1], 0.0, 1.0)).astype(np.uint8)
