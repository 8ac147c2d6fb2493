"""What a file is by its first bytes, whatever its name says: for messages about files that are not what they should be.

Downloads fail in a few ways that leave a file: an error page of the server, a pointer of Git LFS, nothing at all.
"""

from pathlib import Path

_HEAD = 1024  # bytes that are looked at
_MAGIC = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the file: run git lfs pull where it comes from",
    b"\x1f\x8b": "gzip data: unpack it first",
    b"BZh": "bzip2 data: unpack it first",
    b"\xfd7zXZ": "xz data: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


def strange_kind(path: str | Path) -> str | None:
    """What a file is that no loader of numbers can use, with the way out; None if it may be one of theirs.

    Raises OSError if it cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return "empty: fetch it again"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_MARKUP):
        return "a web page, not the file: the server sent it instead, fetch the file with a browser or log in"
    return None


def refuse_strange(path: str | Path) -> None:
    """Raises ValueError, naming the file and what it is, if no loader of numbers can use it."""
    kind = strange_kind(path)
    if kind is not None:
        raise ValueError(f"{path} is {kind}")
