"""Writing videos that everything plays: H.264 in MP4. A file appears once it is complete."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sheap_jax.files.whole_file import to_disk

TICK = Fraction(1, 120_000)  # seconds; frames of all usual rates, NTSC's included, last a whole number of these


class VideoFile:
    """A context manager that writes RGB frames of one size.

    Not by `whole_file`: without a frame there is to be no file.

    Raises OSError that names the file if it cannot be written or the codec refuses the pictures.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.stem[:60]}.{secrets.token_hex(8)}.tmp")  # which nobody can guess
        self._container: Any = None
        self._stream: Any = None
        self._ticks = 0  # up to the end of the last frame
        self._lengths: dict[int, int] = {}  # of frames in the encoder, by their start

    def __enter__(self) -> "VideoFile":
        return self

    def write(self, image: UInt8[np.ndarray, "h w 3"], *, until: float) -> None:
        """Add a frame. It is shown from the end of the frame before, or from 0, to second `until`.

        The codec stores even sizes only: an odd last row or column is left out.
        """
        with self._named_errors():
            self._write(image, until)

    def _write(self, image: UInt8[np.ndarray, "h w 3"], until: float) -> None:
        import av

        height, width = (side - side % 2 for side in image.shape[:2])
        if not height or not width:
            raise OSError(f"{self.path}: a video needs pictures of 2 x 2 pixels or more")
        if self._container is None:
            # With the protocol before it, a path may hold colons.
            self._container = av.open(f"file:{self._partial}", "w", format="mp4")
            # MP4 adds up steps of decoding times: with frames out of order (B), uneven ones give a wrong length.
            self._stream = self._container.add_stream("libx264", options={"crf": "18", "bf": "0"})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = TICK
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        end = max(round(until / TICK), self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, TICK
        self._lengths[self._ticks] = end - self._ticks
        self._ticks = end
        self._mux(self._stream.encode(frame))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            raise OSError(f"{self.path} cannot be written as a video: {error.strerror}") from error

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._lengths.pop(packet.pts)
            self._container.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._container is None:
            return
        try:
            with self._named_errors():
                if kind is None:
                    self._mux(self._stream.encode())
                self._container.close()
            if kind is None:
                to_disk(self._partial)
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
