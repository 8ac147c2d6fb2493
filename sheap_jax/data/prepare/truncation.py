"""Whether a video file is shorter than it states: an interrupted download or copy.

Durations and frame counts cannot tell, since recorders state none or a wrong one. But containers also state sizes in
bytes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_LAST_PART = 0.05  # of a file, looked at for zeros
_MANY_BOXES = 10_000_000  # frames of days; a damaged file must not take forever


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks of what it states; 0 if none, or if its format states nothing (MPEG streams)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        ends: Callable[[BinaryIO], Iterator[int]] | None = None  # places at which something stated ends, ascending
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            ends = _box_ends
        elif start[:4] == b"\x1a\x45\xdf\xa3":
            ends = _element_ends
        elif start[:4] == b"RIFF":
            ends = _riff_ends
        beyond = (place - size for place in (ends(file) if ends else ()) if place > size)
        return next(beyond, 0)


def _box_ends(file: BinaryIO) -> Iterator[int]:
    """MP4, QuickTime: boxes of a 32-bit size, with 1 for a 64-bit size behind the type and 0 for the file's end."""
    place = 0
    for _ in range(_MANY_BOXES):
        file.seek(place)
        header = file.read(16)
        kind = header[4:8]
        if len(kind) < 4 or not kind.isascii() or not kind.decode().isprintable():
            return  # the end, or what others put behind it
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            return
        place += size
        yield place


def _element_ends(file: BinaryIO) -> Iterator[int]:
    """Matroska, WebM: elements one after another. Recorders leave open the sizes of the elements that hold others."""
    place = 0
    for _ in range(_MANY_BOXES):
        file.seek(place)
        first = (file.read(1) or b"\0")[0]
        if first < 0x10:  # no identifier: the end
            return
        file.seek(place + 9 - first.bit_length())
        size = _variable_number(file)
        place = file.tell() + (size or 0)  # into an element of unknown size
        yield place


def _variable_number(file: BinaryIO) -> int | None:
    """A number of EBML: as many bytes as the first has leading zeros, plus one. None for "unknown", all ones."""
    first = (file.read(1) or b"\0")[0]
    length = 9 - first.bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(bytes([first & (0xFF >> length)]) + rest, "big")
    return None if value == (1 << 7 * length) - 1 else value


def _riff_ends(file: BinaryIO) -> Iterator[int]:
    """AVI: one RIFF chunk, or several from 1 GB on. A recorder that was killed leaves a size of 0."""
    place = 0
    for _ in range(_MANY_BOXES):
        file.seek(place)
        header = file.read(8)
        size = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):
            return
        place += 8 + size + size % 2
        yield place - size % 2


def ends_in_zeros(path: Path) -> bool:
    """Whether the last part of a file is zeros: a download that reserved its space first and did not finish."""
    size = path.stat().st_size
    count = min(max(1, int(_LAST_PART * size)), 1 << 20)
    with path.open("rb") as file:
        file.seek(size - count)
        return not any(file.read(count))
