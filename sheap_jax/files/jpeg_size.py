"""How large a JPEG is, from its header, before it is decoded."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of frames: baseline, progressive ...
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels. ValueError if no header states them."""
    place, end = 2, len(data)
    if data[:2] != b"\xff\xd8":
        raise ValueError("it is no JPEG")
    while place + 9 <= end:
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
        elif marker in _ALONE:
            place += 2
        elif marker in _FRAMES:
            height, width = (int.from_bytes(data[place + at : place + at + 2], "big") for at in (5, 7))
            if not (width and height):
                break
            return width, height
        else:
            place += 2 + max(int.from_bytes(data[place + 2 : place + 4], "big"), 2)
    raise ValueError("its header states no size")
