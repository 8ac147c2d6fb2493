"""Writing videos that everything plays: H.264 in MP4. A file appears once it is complete."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8


class VideoFile:
    """A context manager; frames are RGB and of one size, without a frame there is no file."""

    def __init__(self, path: Path, *, rate: float) -> None:
        """`rate` in frames per second."""
        self.path, self.rate = path, Fraction(rate).limit_denominator(1001)
        self._partial = path.with_name(f".{path.name}.partial")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "VideoFile":
        return self

    def write(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Add a frame; an odd last row or column is left out, which the codec cannot store."""
        import av

        height, width = (side - side % 2 for side in image.shape[:2])
        if self._container is None:
            self._container = av.open(str(self._partial), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": "18"})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._container is None:
            return
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
