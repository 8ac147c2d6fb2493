"""Photographs from files to arrays."""

import contextlib
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from sheap_jax.files.regular import open_regular

# Formats that are read; none for which Pillow starts a program (PostScript). JPEG includes phones' files with previews.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_ANIMATED = ("PNG", "WEBP", "GIF")  # whose further pictures are frames; those of JPEG are previews
_SUBFILE, _NO_PAGE = 254, 1 | 4  # a TIFF's tag NewSubfileType: its bits for a smaller version and a mask
MOST_PIXELS = 2**28  # above the largest cameras; a file of a few kilobytes may state any number
_LARGE = 2**25  # pixels above which threads decode one picture at a time: each may take 3 GiB
_large_lock = threading.Lock()
_STRIP = 256  # rows


def read_photograph(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture with 8 bits per channel, upright (EXIF). Transparent pixels are black, like those outside a crop.

    The rules are the same for all formats: palettes, grey and CMYK (without its colour profile) become RGB, 16
    bits become 8.

    Raises OSError if the file cannot be opened; ValueError if it is no picture, damaged, an animation or of several
    pages, or if its numbers are no colours.
    """
    from PIL import Image

    if not Path(path).exists():
        raise FileNotFoundError(f"the photograph {path} is missing")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses twice as many, by the header
    # A file, not its path: Pillow 13 maps files of a path, and scrambles uncompressed TIFFs that lie on their side.
    with open_regular(path) as file, contextlib.ExitStack() as turn:
        try:
            with Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height > _LARGE:
                    turn.enter_context(_large_lock)
                reason = _several(image) or _load_upright(image)
        except Image.DecompressionBombError as error:
            limit = f"{MOST_PIXELS // 10**6} million"
            raise ValueError(f"{path} states more than {limit} pixels: scale it down, or fetch it again") from error
        except Exception as error:  # the decoders of many formats raise as many errors on damaged files
            raise ValueError(f"{path} is no picture, or a damaged one{_format_hint(file)}") from error
        if reason is not None:
            raise ValueError(f"{path} {reason}")
        try:
            return _colors(image)
        except ValueError as error:
            raise ValueError(f"{path} has pixels of mode {image.mode}: save it with 8 or 16 bits per colour") from error


def _load_upright(image: Any) -> str | None:
    """Decode a picture and turn it upright, in place: a copy would take as much memory again."""
    from PIL import ImageOps

    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        return f"needs more memory for its {image.width} x {image.height} pixels than there is: scale it down"
    return None


def _several(image: Any) -> str | None:
    """What a file of several pictures is, and what to do with it. None for a single picture."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in _ANIMATED:
        return "is an animation: convert it to a video, or take one picture of it"
    if frames > 1 and image.format == "TIFF":
        pages = 0
        for number in range(frames):
            image.seek(number)
            pages += not image.tag_v2.get(_SUBFILE, 0) & _NO_PAGE
        image.seek(0)
        if pages > 1:
            return f"has {pages} pages: save each as a picture of its own, or take one picture of it"
    return None


def over_black(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB on black from RGBA."""
    if (pixels[..., 3] == 255).all():
        return np.ascontiguousarray(pixels[..., :3])
    colors = np.empty((*pixels.shape[:2], 3), np.uint8)
    for start in range(0, len(pixels), _STRIP):  # the numbers between take six times the memory
        strip = pixels[start : start + _STRIP]
        colors[start : start + _STRIP] = np.round(strip[..., :3] * (strip[..., 3:] / np.float32(255.0)))
    return colors


def _colors(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of a Pillow image. ValueError for a mode that is no RGB, grey or CMYK of 8 or 16 bits."""
    if image.mode.startswith("I;16"):  # Pillow itself reduces 16 bits of colour to 8, not those of grey
        grey = np.array(image, np.uint16)
        grey[grey == image.info.get("transparency", -1)] = 0
        return np.repeat(np.round(grey / np.float32(257.0)).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("no colours")
    if image.has_transparency_data:
        return over_black(np.asarray(image if image.mode == "RGBA" else image.convert("RGBA")))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _format_hint(file: BinaryIO) -> str:
    """A hint for files whose content is not what their name says, as phones write them."""
    file.seek(0)
    start = file.read(12)
    if not start:
        return ": it is empty"
    if start[4:8] == b"ftyp":
        return ": it is HEIC, AVIF or a video by its content; convert it to JPEG"
    return ""
