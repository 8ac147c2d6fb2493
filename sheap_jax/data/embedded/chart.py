"""A flat chart of the head on which skin is painted, and noise to paint with.

The chart is the cylinder around the vertical axis through the skull, unrolled: u = angle x radius to the subject's
left, v up. It is defined by positions on the model's template, so that paint follows expression and identity and no
uv chart of one particular model is needed. Behind the ears hair or plain skin is seen: the chart ends there.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

AXIS_Z = -0.03  # metres: where the axis stands, the middle of the skull
RADIUS = 0.1  # metres
TEXEL = 0.001  # metres
U_LIMITS = (-0.2, 0.2)  # metres, +-115 degrees
V_LIMITS = (-0.17, 0.17)
WIDTH = round((U_LIMITS[1] - U_LIMITS[0]) / TEXEL)
HEIGHT = round((V_LIMITS[1] - V_LIMITS[0]) / TEXEL)

Mask = Float[np.ndarray, "h w"]
_SUBPIXEL_BITS = 4


def chart_texels(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Points of the template surface (metres) to texel coordinates (x right = subject's left, y down)."""
    angle = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z)
    x = (angle * RADIUS - U_LIMITS[0]) / TEXEL
    y = (V_LIMITS[1] - points[..., 1]) / TEXEL
    return np.stack([x, y], axis=-1)


def texel_grid() -> tuple[Float[np.ndarray, "w"], Float[np.ndarray, "h"]]:
    """Azimuth in radians of every column, height in metres of every row."""
    azimuth = (U_LIMITS[0] + (np.arange(WIDTH, dtype=np.float32) + 0.5) * TEXEL) / RADIUS
    height = V_LIMITS[1] - (np.arange(HEIGHT, dtype=np.float32) + 0.5) * TEXEL
    return azimuth, height


def lattice_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Mask:
    """Smooth noise of about unit variance: white noise on `cells` (rows, columns), enlarged to `shape`."""
    coarse = rng.standard_normal(cells).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def chart_noise(rng: np.random.Generator, size: float) -> Mask:
    """Smooth noise over the chart with features of about `size` metres."""
    cells = (max(2, round(HEIGHT * TEXEL / size)), max(2, round(WIDTH * TEXEL / size)))
    return lattice_noise(rng, (HEIGHT, WIDTH), cells)


def add_spot(field: Mask, center: Float[np.ndarray, "2"], radii: tuple[float, float], amount: float) -> None:
    """Add a Gaussian spot to a field in place: centre in texels, radii (standard deviations in x and y) in metres."""
    reach = np.array(radii) / TEXEL
    low = np.clip(np.floor(center - 3 * reach), 0, [WIDTH, HEIGHT]).astype(int)
    high = np.clip(np.ceil(center + 3 * reach) + 1, 0, [WIDTH, HEIGHT]).astype(int)
    x = np.exp(-0.5 * ((np.arange(low[0], high[0]) + 0.5 - center[0]) / reach[0]) ** 2)
    y = np.exp(-0.5 * ((np.arange(low[1], high[1]) + 0.5 - center[1]) / reach[1]) ** 2)
    field[low[1] : high[1], low[0] : high[0]] += (amount * y[:, None] * x[None, :]).astype(np.float32)


def polygon(points: Float[np.ndarray, "n 2"], blur: float) -> Mask:
    """A filled polygon of texel coordinates with edges softened by a Gaussian of `blur` metres."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(canvas, [_fixed(points)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return soften(canvas, blur)


def strokes(lines: list[Float[np.ndarray, "n 2"]], *, thickness: int = 1, blur: float = 0.0) -> Mask:
    """Open polylines of texel coordinates."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.polylines(canvas, [_fixed(line) for line in lines], False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    return soften(canvas, blur)


def soften(canvas: UInt8[np.ndarray, "h w"], blur: float) -> Mask:
    """A painted canvas (0-255) as a mask in [0, 1], blurred by a Gaussian of `blur` metres."""
    mask = canvas.astype(np.float32) * np.float32(1 / 255)
    return cv2.GaussianBlur(mask, (0, 0), blur / TEXEL) if blur > 0 else mask


def _fixed(points: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Texel coordinates in the fixed point numbers of cv2, whose first texel centre is 0 and not 0.5."""
    return np.round((np.asarray(points) - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
