"""Videos as recorders, phones and broken downloads leave them: any stamps, pixels that are not square, turned."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 48, 64


def picture(number: int, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Red grows to the right, green downwards, blue with the frame's number (10 a frame, up to 25 frames)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, width)[None]
    image[..., 1] = np.linspace(0, 250, height)[:, None]
    image[..., 2] = 10 * (number % 26)
    return image


def write_frames(
    path: Path,
    stamps: Sequence[float],
    *,
    codec: str = "libx264",
    tick: Fraction = Fraction(1, 1000),
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    **container_options: str,
) -> Path:
    """A video whose frame k is `picture(k)` and is stamped with `stamps[k]` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(f"file:{path}", "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p" if codec == "libx264" else "yuv420p"
        stream.codec_context.time_base, stream.codec_context.bit_rate = tick, 4_000_000
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = round(stamp / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file with a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for start in range(0, 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write the display matrix of an MP4's track: (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd") + 4 + 40  # behind version, times, track, duration, layer and volume
    content[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def cut_start(path: Path, seconds: float) -> None:
    """Let an MP4's edit list begin so much later, as phones cut a video without writing it again."""
    content = bytearray(path.read_bytes())
    place = content.find(b"elst") + 4 + 8
    scale = content.find(b"mdhd") + 4 + 12
    (ticks,) = struct.unpack(">I", content[scale : scale + 4])
    length, start = struct.unpack(">Ii", content[place : place + 8])
    content[place : place + 8] = struct.pack(">Ii", length - round(1000 * seconds), start + round(ticks * seconds))
    path.write_bytes(content)
