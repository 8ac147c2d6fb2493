"""Pictures for the eye: shaded meshes, overlays, normals, and grids of them. Functions of NumPy arrays.

Images are float RGB in [0, 1]; normals are those of the rasteriser: camera space (x right, y down, z forward), facing
the camera. Leading batch axes are free except in `grid`, which makes the one uint8 picture that is saved.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sheap_jax.files.whole_file import whole_file

CLAY = (0.55, 0.72, 0.85)  # colour of an unlit mesh
GAP = 2  # pixels between the pictures of a grid
LARGEST_CAPTION, SMALLEST_CAPTION = 18, 8  # pixels: height of letters


def shade(normal: Float[np.ndarray, "*b h w 3"]) -> Float[np.ndarray, "*b h w 3"]:
    """A clay head under a lamp beside the camera, from its normals."""
    unit = _unit(normal)
    lamp = np.array([-0.3, -0.4, -0.87])
    brightness = 0.25 + 0.75 * np.clip(unit @ lamp, 0.0, 1.0)
    return brightness[..., None] * np.array(CLAY)


def overlay(
    image: Float[np.ndarray, "*b h w 3"],
    normal: Float[np.ndarray, "*b h w 3"],
    mask: Bool[np.ndarray, "*b h w"],
    *,
    opacity: float = 0.65,
) -> Float[np.ndarray, "*b h w 3"]:
    """The shaded mesh over the image, where `mask` says that the mesh is."""
    image = np.asarray(image)
    weight = opacity * np.asarray(mask, image.dtype)[..., None]
    return (1.0 - weight) * image + weight * shade(normal)


def normal_colors(
    normal: Float[np.ndarray, "*b h w 3"], mask: Bool[np.ndarray, "*b h w"]
) -> Float[np.ndarray, "*b h w 3"]:
    """Normals as colours: red to the right, green up, blue to the viewer; black outside the mask."""
    colors = 0.5 + 0.5 * _unit(normal) * np.array([1.0, -1.0, -1.0])
    return np.where(np.asarray(mask, bool)[..., None], colors, 0.0)


def grid(rows: Sequence[Sequence[np.ndarray]], *, captions: Sequence[str] = ()) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of equally large images as one picture with thin white gaps. Rows may differ in length.

    `captions` stand above the columns. Raises ValueError if there is no image or the sizes differ.
    """
    sizes = {np.shape(image) for row in rows for image in row}
    if len(sizes) != 1:
        raise ValueError(f"a grid needs images of one size, not {sorted(sizes) or 'none at all'}")
    height, width, channels = sizes.pop()
    columns = max(len(row) for row in rows)
    canvas = np.ones((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels))
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            y, x = top * (height + GAP), left * (width + GAP)
            canvas[y : y + height, x : x + width] = image
    picture = np.round(255 * np.clip(np.nan_to_num(canvas), 0.0, 1.0)).astype(np.uint8)
    if not captions:
        return picture
    return np.concatenate([_caption_strip(captions, column=width + GAP, width=picture.shape[1]), picture])


def reanimation_grid(
    source: Float[np.ndarray, "n h w 3"],
    target: Float[np.ndarray, "n h w 3"],
    rendered: Float[np.ndarray, "n h w 3"],
    normal: Float[np.ndarray, "n h w 3"],
    mask: Bool[np.ndarray, "n h w"],
) -> UInt8[np.ndarray, "y x 3"]:
    """A row for each pair: its frames, the source re-animated, and the mesh in the target's pose by its normals."""
    columns = {
        "source": source,
        "target": target,
        "source re-animated": rendered,
        "mesh over target": overlay(target, normal, mask),
        "normals of mesh": normal_colors(normal, mask),
    }
    return grid(list(zip(*columns.values(), strict=True)), captions=list(columns))


def _caption_strip(captions: Sequence[str], *, column: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """A caption above each column, in letters as large as the longest allows; cut where even that is not enough."""
    from PIL import Image, ImageDraw, ImageFont

    room = column - 2 * GAP
    size, font = SMALLEST_CAPTION, ImageFont.load_default(SMALLEST_CAPTION)
    for larger in range(SMALLEST_CAPTION + 1, LARGEST_CAPTION + 1):
        wanted = ImageFont.load_default(larger)
        if max(wanted.getlength(caption) for caption in captions) > room:
            break
        size, font = larger, wanted
    strip = Image.new("RGB", (width, size + size // 2), "white")
    for place, caption in enumerate(captions):
        while caption and font.getlength(caption) > room:
            caption = caption[:-1]
        ImageDraw.Draw(strip).text((place * column + GAP, 0), caption, font=font, fill="black")
    return np.asarray(strip)


def save_picture(picture: UInt8[np.ndarray, "h w 3"], path: str | Path) -> None:
    """Write an RGB picture whole; the suffix gives the format. Raises OSError if it cannot be written."""
    import cv2

    with whole_file(path, durable=False) as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(picture[..., ::-1])):
            raise OSError(f"could not write the picture {path}: is the disk full or the suffix unknown?")


def _unit(normal: Float[np.ndarray, "*b h w 3"]) -> Float[np.ndarray, "*b h w 3"]:
    normal = np.asarray(normal)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal / np.where(length > 1e-6, length, 1.0)
