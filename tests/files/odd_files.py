"""Files that state more than they hold, and things that are no files."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np


def npy_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def write_npz_that_asks(path: Path, *names: str, shape: tuple[int, ...] = (2**32,)) -> Path:
    """About a kilobyte that states arrays of 32 GiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"{name}.npy", npy_header(shape) + bytes(100))
    return path


def write_npz_that_swells(path: Path, size: int) -> Path:
    """An archive of zeros that is as large as it states, once it is unpacked."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as part,
    ):
        part.write(npy_header((size // 8,)))
        for _ in range(size >> 20):
            part.write(bytes(2**20))
    return path


def write_png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that states a size and has one row of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    row = chunk(b"IDAT", zlib.compress(bytes(1 + 3 * width)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + row + chunk(b"IEND", b""))
    return path


def write_pipe(path: Path) -> Path:
    """A pipe that nobody writes to: to open it for reading waits for ever."""
    os.mkfifo(path)
    return path
