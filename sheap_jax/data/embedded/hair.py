"""Hair as a shell over the skull: a grid of meridians from crown to hairline that may hang on below it.

Geometry that no head model explains, on purpose. The shell follows the person's own skull; strands, ragged edges and
highlights come from a texture whose alpha lets the skin show through.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.data.embedded.chart import AXIS_Z, lattice_noise
from sheap_jax.data.embedded.traits import Haircut, Traits

MERIDIANS = 60
SCALP_ROWS = 17  # from crown to hairline
HANGING_ROWS = 8  # below it; they collapse into the hairline where hair is short
SHELL_VERTICES = (MERIDIANS + 1) * (SCALP_ROWS + HANGING_ROWS)
CENTER_Y = 0.05  # metres: the skull's centre on the vertical axis
TEXTURE_SIZE = 256  # rows (along the strand) and columns (round the crown)
STRAND_LENGTH = 0.32  # metres of strand that the rows of the texture cover

# The hairline: height in metres over the template's eyes, by azimuth in degrees from the face to the back.
_AZIMUTH = np.array([0, 30, 48, 60, 70, 80, 90, 100, 112, 130, 155, 180], np.float32)
_HEIGHT = np.array([66, 66, 60, 42, 22, 0, 18, 24, 10, -35, -62, -68], np.float32) / 1000
_EYE_HEIGHT = 0.02


class HairShell(NamedTuple):
    """The shell of one person in the neutral pose."""

    vertices: Float[np.ndarray, "h 3"]
    strand: Float[
        np.ndarray, "h 4"
    ]  # cos and sin of the angle round the crown, way from it (0-1), distance from the edge (m)


def hairline(cut: Haircut, azimuth: Float[np.ndarray, "n"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """Height (metres) of the edge of the hair at each azimuth (radians), with an irregular course."""
    degrees = np.abs(np.degrees(azimuth))
    height = np.interp(degrees, _AZIMUTH, _HEIGHT) + _EYE_HEIGHT
    front = np.interp(degrees, [0, 45, 62], [1, 1, 0])
    temple = np.exp(-(((degrees - 42) / 13) ** 2))
    side = np.interp(degrees, [70, 90, 180], [0, 1, 1])
    shift = rng.normal(0, 0.005)
    height = height + front * shift - front * cut.fringe + temple * rng.uniform(-0.002, 0.01)
    receding = 1.0 - cut.coverage
    height = height + receding * (front * 0.09 + temple * 0.03 + side * 0.012)
    knots = rng.normal(0, 0.0025, 24)
    wave = np.interp(azimuth, np.linspace(-np.pi, np.pi, 25), np.append(knots, knots[0]))
    return (height + wave).astype(np.float32)


def skull_radius(vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "e a"]:
    """Radius of the head by elevation (-90 to 90 degrees, 37 rows) and azimuth (-180 to 175, 72 columns), metres.

    The farthest vertex of each cell; cells without one are filled from their neighbours, ears are smoothed away.
    """
    offset = vertices - np.array([0, CENTER_Y, AXIS_Z])
    radius = np.linalg.norm(offset, axis=1)
    row = np.round(np.degrees(np.arcsin(offset[:, 1] / np.maximum(radius, 1e-6))) / 5 + 18).astype(int)
    column = np.round(np.degrees(np.arctan2(offset[:, 0], offset[:, 2])) / 5 + 36).astype(int) % 72
    cells = np.zeros((37, 72), np.float32)
    np.maximum.at(cells, (row, column), radius)
    wide = np.concatenate([cells, cells, cells], axis=1)
    for _ in range(6):  # holes take the mean of their filled neighbours
        weight = cv2.blur((wide > 0).astype(np.float32), (3, 3))
        mean = cv2.blur(wide, (3, 3)) / np.maximum(weight, 1e-6)
        wide = np.where(wide > 0, wide, mean * (weight > 0))
    ears = cv2.erode(wide, np.ones((3, 9), np.uint8))  # a narrow maximum is an ear, not the skull
    wide[:22] = np.minimum(wide, ears + 0.004)[:22]
    return cv2.GaussianBlur(wide, (0, 0), 0.9)[:, 72:144]


def grow_hair(
    vertices: Float[np.ndarray, "v 3"], traits: Traits, rng: np.random.Generator, edge: Float[np.ndarray, "m"]
) -> HairShell:
    """The shell over a neutral head.

    Args:
      vertices: of the person's skin, metres.
      edge: height of the hairline at the azimuths of `meridians`.
    """
    cut = traits.haircut
    radius = skull_radius(vertices)
    azimuth = meridians()
    elevation = _edge_elevation(radius, azimuth, edge)
    way = np.linspace(0, 1, SCALP_ROWS)[:, None]
    angle = np.pi / 2 + (elevation[None, :] - np.pi / 2) * way  # [rows, meridians]
    thickness = _thickness(cut, way, azimuth, rng)
    direction = np.stack([np.cos(angle) * np.sin(azimuth), np.sin(angle), np.cos(angle) * np.cos(azimuth)], axis=-1)
    reach = _sample_radius(radius, angle, np.broadcast_to(azimuth, angle.shape)) + thickness
    points = np.array([0, CENTER_Y, AXIS_Z]) + direction * reach[..., None]
    hanging = _hang(points[-1], azimuth, cut, rng)
    grid = np.concatenate([points, hanging], axis=0)
    return HairShell(grid.reshape(-1, 3).astype(np.float32), _strand_coordinates(grid, cut).reshape(-1, 4))


def meridians() -> Float[np.ndarray, "m"]:
    """Azimuths of the columns of the grid; the last column repeats the first."""
    return np.linspace(-np.pi, np.pi, MERIDIANS + 1).astype(np.float32)


def shell_faces() -> Int[np.ndarray, "f 3"]:
    """Triangles of the grid, outward."""
    rows, columns = SCALP_ROWS + HANGING_ROWS, MERIDIANS + 1
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def _edge_elevation(radius: np.ndarray, azimuth: np.ndarray, edge: np.ndarray) -> Float[np.ndarray, "m"]:
    """Elevation at which each meridian reaches the height of the hairline."""
    angle = np.radians(np.linspace(-75, 88, 80))[:, None] * np.ones_like(azimuth)
    height = CENTER_Y + _sample_radius(radius, angle, np.broadcast_to(azimuth, angle.shape)) * np.sin(angle)
    return np.array([np.interp(edge[i], np.maximum.accumulate(height[:, i]), angle[:, i]) for i in range(len(azimuth))])


def _sample_radius(radius: np.ndarray, angle: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Bilinear look-up, periodic in azimuth."""
    padded = np.concatenate([radius, radius[:, :1]], axis=1)
    x = (np.degrees(azimuth) / 5 + 36).astype(np.float32)
    y = (np.degrees(angle) / 5 + 18).astype(np.float32)
    return cv2.remap(padded, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _thickness(cut: Haircut, way: np.ndarray, azimuth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hair stands off most at the crown and lies down towards the hairline; waves and locks make it uneven."""
    rows, columns = len(way), len(azimuth)
    locks = lattice_noise(rng, (rows, columns), (4, 12)) * 0.16 + lattice_noise(rng, (rows, columns), (8, 30)) * 0.1
    locks[:, -1] = locks[:, 0]
    hangs = np.clip((np.abs(azimuth) - cut.open_angle) / 0.2, 0, 1) * (cut.length > 0)
    fringe = np.interp(np.abs(azimuth), [0, 0.9, 1.2], [1, 1, 0]) * (cut.fringe > 0.004)
    lift = np.maximum(0.5 * hangs, 0.35 * fringe)
    profile = 1 - (1 - lift) * way**3.5
    seam = np.clip(1 - way * 2, 0, 1)  # meridians meet at the crown: one thickness there
    return (cut.volume * (profile * (1 + locks * (1 + cut.curl) * (1 - seam))) + 0.0015).clip(0.0012)


def _hang(edge: np.ndarray, azimuth: np.ndarray, cut: Haircut, rng: np.random.Generator) -> np.ndarray:
    """Rows below the hairline: out over the ear, then down; a little wave."""
    t = np.linspace(0, 1, HANGING_ROWS + 1)[1:, None]
    opening = np.clip((np.abs(azimuth) - cut.open_angle) / 0.35, 0, 1)
    ends = cut.length * opening * (1 + 0.08 * rng.standard_normal(len(azimuth)))
    ends[-1] = ends[0]
    outward = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)
    ear = np.exp(-(((np.degrees(np.abs(azimuth)) - 95) / 28) ** 2))
    bulge = (0.010 + 0.022 * ear) * np.sin(np.clip(t * 1.6, 0, np.pi / 2)) - 0.012 * t**2
    wave = 0.006 * cut.curl * np.sin(t * 9 + rng.uniform(0, 6) + 3 * azimuth)
    side = (bulge + wave)[..., None] * outward * (opening * (cut.length > 0))[:, None]
    return edge[None] + side - np.array([0, 1, 0]) * (t * ends)[..., None]


def _strand_coordinates(grid: np.ndarray, cut: Haircut) -> Float[np.ndarray, "r m 4"]:
    """Texture coordinates: the angle round the parting and the way along the strand; and the distance to the edge."""
    crown = grid[0].mean(axis=0) * [1, 0, 1] + [cut.parting[0], 0, cut.parting[1]]
    around = np.arctan2(grid[..., 0] - crown[0], grid[..., 2] - crown[2])
    steps = np.linalg.norm(np.diff(grid, axis=0), axis=-1)
    along = np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, axis=0)])
    inside = along[-1] - along
    hangs = inside[SCALP_ROWS - 1] > 0.01  # locks that hang are ragged at their tips only, however short they are
    share = np.concatenate([np.zeros(SCALP_ROWS - 1), np.linspace(0, 1, HANGING_ROWS + 1)])[:, None]
    inside = np.where(hangs, np.maximum(inside, (1 - share) * cut.length), inside)
    return np.stack([np.cos(around), np.sin(around), along / STRAND_LENGTH, inside], axis=-1).astype(np.float32)


def paint_hair(traits: Traits, rng: np.random.Generator) -> Float[np.ndarray, "s s 4"]:
    """Texture of strands: linear RGB and how far (metres) this strand falls short of the edge.

    Rows along the strand from the crown, columns round it (periodic: the last columns blend into the first).
    """
    size = TEXTURE_SIZE
    curl = int(3 + 12 * traits.haircut.curl)
    fine = _periodic(rng, (curl, size))
    locks = _periodic(rng, (max(2, curl // 2), size // 4))
    broad = _periodic(rng, (2, 8))
    brightness = np.exp(0.24 * fine + 0.26 * locks + 0.1 * broad)
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    lighter_tips = 1 + 0.35 * rows * rng.random()
    color = traits.hair * (brightness * lighter_tips)[..., None]
    warm = 1 + 0.12 * locks[..., None] * np.array([1, 0, -1], np.float32)
    reach = 0.003 + 0.009 * traits.haircut.raggedness + 0.4 * max(0.0, traits.haircut.fringe)
    wisps = _periodic(rng, (4, size // 2))
    short = reach * np.clip(0.5 + 0.4 * fine + 0.5 * locks + 0.35 * wisps, 0, 2.5)
    return np.concatenate([np.clip(color * warm, 0.002, 0.9), short[..., None]], axis=-1).astype(np.float32)


def _periodic(rng: np.random.Generator, cells: tuple[int, int]) -> np.ndarray:
    size = TEXTURE_SIZE
    wide = lattice_noise(rng, (size, size + 32), (cells[0], max(2, round(cells[1] * (size + 32) / size))))
    blend = np.linspace(0, 1, 32, dtype=np.float32)
    result = wide[:, :size].copy()
    result[:, :32] = blend * wide[:, :32] + (1 - blend) * wide[:, size:]
    return result
