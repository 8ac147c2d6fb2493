"""Skin painted on the head's chart: one texture of reflectance and shine per person.

Layers are multiplied onto the base colour from the broad (blood, tan) to the fine (pores, freckles, hairs). Facial
features are placed by the 68 landmarks of the model's template, so that they follow the geometry of any head.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from sheap_jax.data.embedded import chart
from sheap_jax.data.embedded.traits import Traits

Texture = Float[np.ndarray, "h w 4"]  # linear RGB, amount of shine
Texels = Float[np.ndarray, "68 2"]
Mask = chart.Mask
MILLIMETRE = 0.001 / chart.TEXEL  # in texels

_RED = np.array([1.05, 0.72, 0.70], np.float32)  # more blood near the surface
_SHADE = np.array([0.80, 0.68, 0.64], np.float32)  # thin or folded skin
_PIGMENT = np.array([0.66, 0.50, 0.40], np.float32)  # freckles, moles, tan


def paint_skin(landmarks: Float[np.ndarray, "68 3"], hairline: Float[np.ndarray, "w"], traits: Traits,
               rng: np.random.Generator) -> Texture:  # fmt: skip
    """The texture of one person.

    Args:
      landmarks: of the template, metres.
      hairline: height (metres) above which hair grows, per column of the chart.
    """
    texels = chart.chart_texels(landmarks)
    shape = (chart.HEIGHT, chart.WIDTH)
    fields = _Fields(*(np.zeros(shape, np.float32) for _ in _Fields._fields))
    _complexion(fields, texels, traits, rng)
    _marks(fields, texels, traits, rng)
    _wrinkles(fields, texels, traits, rng)
    color = _mix(fields, traits)
    shine = 0.35 + fields.shine
    _lips(color, shine, texels, traits)
    _beard(color, shine, texels, traits, rng)
    _scalp(color, shine, hairline, traits, rng)
    _brows(color, texels, traits, rng)
    _eye_rims(color, texels, traits)
    return np.concatenate([np.clip(color, 0.004, 0.9), (shine * traits.shine)[..., None]], axis=-1)


class _Fields(NamedTuple):
    """Amounts on the chart that are gathered before colours are mixed."""

    brightness: Mask  # relative deviation
    blood: Mask
    shade: Mask
    pigment: Mask
    shine: Mask


def _mix(fields: _Fields, traits: Traits) -> Float[np.ndarray, "h w 3"]:
    blood = np.clip(fields.blood, -0.25, 0.9) * (1 - 0.55 * traits.darkness)
    shade, pigment = np.clip(fields.shade, 0, 1), np.clip(fields.pigment, 0, 1.1)
    channels = [
        traits.skin[c] * (1 + fields.brightness) * (1 + blood * (_RED[c] - 1)) * (1 + shade * (_SHADE[c] - 1))
        * (1 + pigment * (_PIGMENT[c] - 1))
        for c in range(3)
    ]  # fmt: skip
    return np.stack(channels, axis=-1).astype(np.float32)


def _tint(color: np.ndarray, mask: np.ndarray, factor: np.ndarray) -> None:
    """Multiply `color` by `factor` where `mask` is 1, in place."""
    part = _painted(mask)
    color[part] *= 1 + mask[part][..., None] * (np.asarray(factor, np.float32) - 1)


def _cover(color: np.ndarray, mask: np.ndarray, paint: np.ndarray) -> None:
    """Replace `color` by `paint`, one colour or one for each texel, where `mask` is 1, in place."""
    part = _painted(mask)
    paint = np.asarray(paint, np.float32)
    color[part] += mask[part][..., None] * ((paint[part] if paint.ndim == 3 else paint) - color[part])


def _painted(mask: np.ndarray) -> tuple[slice, slice]:
    """The rectangle outside which a mask is zero: most paint is local."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _complexion(fields: _Fields, texels: Texels, traits: Traits, rng: np.random.Generator) -> None:
    broad, medium, fine, blotches = (chart.chart_noise(rng, size) for size in (0.03, 0.009, 0.0025, 0.016))
    pores = rng.standard_normal(broad.shape, dtype=np.float32)
    uneven = 0.7 + 0.6 * traits.age
    fields.brightness[:] = uneven * (0.03 * broad + 0.025 * medium + 0.02 * fine + 0.022 * pores)
    blood, shade = fields.blood, fields.shade
    blood += 0.12 * blotches + 0.05 * medium
    nose, chin = texels[30], texels[8]
    for side in (1, -1):
        cheek = nose + side * np.array([42.0, 0.0]) * MILLIMETRE + np.array([0, 4.0]) * MILLIMETRE
        chart.add_spot(blood, cheek, (0.016, 0.014), 0.55 * traits.ruddiness)
        chart.add_spot(blood, np.array([chart.WIDTH / 2 + side * 155 * MILLIMETRE, nose[1]]), (0.02, 0.025), 0.5)
        eye = texels[36:42].mean(0) if side < 0 else texels[42:48].mean(0)
        below, above = np.array([0, 10.0]) * MILLIMETRE, np.array([0, -7.0]) * MILLIMETRE
        chart.add_spot(shade, eye + below, (0.011, 0.004), 0.1 + 0.4 * traits.age)
        chart.add_spot(shade, eye + above, (0.013, 0.005), 0.3)
    chart.add_spot(blood, nose, (0.009, 0.009), 0.6 * traits.ruddiness)
    chart.add_spot(blood, chin, (0.012, 0.010), 0.25)
    chart.add_spot(shade, texels[57] + np.array([0, 6.0]) * MILLIMETRE, (0.011, 0.003), 0.3)
    forehead = texels[27] - np.array([0, 45.0]) * MILLIMETRE
    fields.shine[:] = 0.06 * medium
    chart.add_spot(fields.shine, forehead, (0.025, 0.018), 0.5)
    chart.add_spot(fields.shine, nose, (0.007, 0.014), 0.7)


def _marks(fields: _Fields, texels: Texels, traits: Traits, rng: np.random.Generator) -> None:
    """Freckles, moles and blemishes."""
    middle = texels[29]
    canvas = np.zeros(fields.pigment.shape, np.uint8)
    for x, y in rng.normal(middle, np.array([40, 25]) * MILLIMETRE, (int(420 * min(traits.freckles, 1.0)), 2)):
        cv2.circle(
            canvas, (round(x * 16), round(y * 16)), int(rng.integers(7, 18)), int(rng.integers(50, 150)), -1, 16, 4
        )
    fields.pigment[:] += chart.soften(canvas, 0.0006)
    for _ in range(traits.moles):
        radius = rng.uniform(0.0007, 0.0016)
        where = rng.normal(middle, np.array([60, 50]) * MILLIMETRE)
        chart.add_spot(fields.pigment, where, (radius, radius), rng.uniform(0.6, 1.2))
    for _ in range(rng.poisson(2.5)):
        radius = rng.uniform(0.001, 0.0022)
        chart.add_spot(fields.blood, rng.normal(middle, np.array([50, 50]) * MILLIMETRE), (radius, radius), 0.6)


def _wrinkles(fields: _Fields, texels: Texels, traits: Traits, rng: np.random.Generator) -> None:
    """Lines of the forehead, round the eyes and from nose to mouth; deeper with age."""
    lines = []
    across = np.linspace(-1, 1, 16)
    for i in range(4):
        y = texels[27, 1] - (28 + 9 * i + rng.normal(0, 1.5)) * MILLIMETRE
        wave = y + 2.5 * MILLIMETRE * (np.cos(across * 3.0) + rng.normal(0, 0.25, 16))
        lines.append(np.stack([texels[27, 0] + across * rng.uniform(20, 34) * MILLIMETRE, wave], axis=1))
    folds = []
    for side, wing, corner, eye in ((-1, 31, 48, 36), (1, 35, 54, 45)):
        outward = np.array([side, 0.0]) * MILLIMETRE
        middle = (texels[wing] + texels[corner]) / 2
        start = texels[wing] + 4 * outward - [0, 4 * MILLIMETRE]
        folds.append(np.array([start, middle + 7 * outward, texels[corner] + 6 * outward]))
        for angle in (-0.5, 0.0, 0.45):
            start = texels[eye] + 5 * outward
            lines.append(np.stack([start, start + 10 * MILLIMETRE * np.array([side * np.cos(angle), np.sin(angle)])]))
    strength = max(0.0, traits.age - 0.25)
    fields.shade[:] += 0.9 * strength * chart.strokes(lines, blur=0.0009)
    fields.shade[:] += (0.25 + 0.9 * strength) * chart.strokes(folds, thickness=2, blur=0.0016)


def _lips(color: np.ndarray, shine: np.ndarray, texels: Texels, traits: Traits) -> None:
    outline = texels[48:60].copy()
    outline[[2, 4]] -= np.array([0, 0.0008]) / chart.TEXEL  # the two peaks of the upper lip
    mask = chart.polygon(outline, 0.0012)
    _cover(color, min(traits.lip_contrast, 0.95) * mask, traits.lip)
    shine += 0.45 * mask
    rim = chart.strokes([texels[[48, 60, 61, 62, 63, 64, 54]], texels[[48, 60, 67, 66, 65, 64, 54]]], blur=0.0007)
    _tint(color, np.clip(1.5 * rim, 0, 1), np.array([0.3, 0.2, 0.2], np.float32))


def _beard(color: np.ndarray, shine: np.ndarray, texels: Texels, traits: Traits, rng: np.random.Generator) -> None:
    """Stubble shades the whole beard area; a beard covers it with strokes of hair."""
    amount = max(traits.stubble, traits.beard)
    if amount < 0.02:
        return
    jaw = texels[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]]
    under = jaw[3:12] + np.array([0, 22 * MILLIMETRE])
    upper = [texels[35] + [3 * MILLIMETRE, 5 * MILLIMETRE], texels[33] + [0, 4 * MILLIMETRE],
             texels[31] + [-3 * MILLIMETRE, 5 * MILLIMETRE]]  # fmt: skip
    cheek_left = [texels[54] + [14 * MILLIMETRE, -2 * MILLIMETRE]]
    cheek_right = [texels[48] + [-14 * MILLIMETRE, -2 * MILLIMETRE]]
    left = [jaw[14] - [4 * MILLIMETRE, 0], jaw[12] + [-12 * MILLIMETRE, -10 * MILLIMETRE]]
    right = [jaw[2] + [12 * MILLIMETRE, -10 * MILLIMETRE], jaw[0] + [4 * MILLIMETRE, 0]]
    area = np.concatenate([jaw[:3], under, jaw[12:], left, cheek_left, upper, cheek_right, right])
    mask = chart.polygon(area, 0.0045) * (1 - chart.polygon(texels[48:60], 0.001))
    mask *= np.clip(0.85 + 0.2 * chart.chart_noise(rng, 0.006), 0, 1)
    dots = np.clip(0.6 + 0.5 * rng.standard_normal(mask.shape, dtype=np.float32), 0, 1)
    _cover(color, mask * dots * 0.5 * traits.stubble, traits.brows + 0.25 * traits.skin)
    if traits.beard:
        grain = chart.lattice_noise(rng, mask.shape, (chart.HEIGHT // 6, chart.WIDTH))
        hair = np.clip(1.0 + 0.35 * grain, 0.3, 1.8)[..., None] * (0.6 * traits.hair + 0.4 * traits.brows)
        edge = np.clip(mask * 2.2 - 0.35 + 0.25 * grain * (mask < 0.9), 0, 1)
        _cover(color, edge * (0.55 + 0.4 * traits.beard), hair)
        shine *= 1 - 0.7 * edge


def _scalp(
    color: np.ndarray, shine: np.ndarray, hairline: np.ndarray, traits: Traits, rng: np.random.Generator
) -> None:
    """Skin under hair takes its colour (roots), and hair shadows the skin just below the hairline."""
    height = chart.texel_grid()[1][:, None]
    inside = height - hairline[None, :]
    grain = chart.chart_noise(rng, 0.002)
    roots = np.clip((inside - 0.004) / 0.012 + 0.12 * grain, 0, 1) * (0.9 if traits.haircut.coverage > 0.3 else 0.22)
    shadow = np.clip(1 + inside / 0.014, 0, 1) * 0.35 * min(1.0, traits.haircut.volume / 0.012)
    if traits.haircut.coverage > 0.3:
        _tint(color, shadow, _SHADE)
    _cover(color, roots, traits.hair * 0.8 + 0.05 * traits.skin)
    shine *= 1 - 0.6 * roots


def _brows(color: np.ndarray, texels: Texels, traits: Traits, rng: np.random.Generator) -> None:
    """Single hairs that fan from upright at the nose to sideways at the temple."""
    count = int(230 * traits.brow_density)
    thickness = rng.uniform(2.2, 3.6) + 1.2 * traits.masculine
    lines, underlay = [], []
    for points, side in ((texels[[21, 20, 19, 18, 17]], -1), (texels[22:27], 1)):
        if traits.brow_reach != 1.0 or traits.brow_drop != 0.0:
            points = points[0] + traits.brow_reach * (points - points[0]) + [0, traits.brow_drop / chart.TEXEL]
        along = np.sort(rng.random(count)) * 1.05
        knots = np.linspace(0, 1, 5)
        x, y = np.interp(along, knots, points[:, 0]), np.interp(along, knots, points[:, 1])
        taper = np.clip(1.15 - 0.75 * along, 0.25, 1) * np.clip(0.6 + along * 3, 0, 1)
        y = y + thickness * MILLIMETRE * taper * rng.normal(0, 0.55, count) + 1.0 * MILLIMETRE
        angle = np.interp(along, [0, 0.35, 1], [1.25, 0.55, -0.25]) + rng.normal(0, 0.15, count)
        length = rng.uniform(3.0, 6.0, count) * MILLIMETRE
        step = np.stack([side * np.cos(angle), -np.sin(angle)], axis=1) * length[:, None]
        start = np.stack([x, y], axis=1) - 0.4 * step
        lines += list(np.stack([start, start + 0.5 * step, start + step], axis=1))
        underlay.append(points + np.array([0, 1.0 * MILLIMETRE]))
    under = chart.strokes(underlay, thickness=round(thickness * 1.5), blur=0.0016)
    _cover(color, 0.55 * traits.brow_density * under, traits.brows + 0.15 * traits.skin)
    _cover(color, 0.9 * np.clip(1.3 * chart.strokes(lines, blur=0.0004), 0, 1), traits.brows)


def _eye_rims(color: np.ndarray, texels: Texels, traits: Traits) -> None:
    """Lashes and the crease of the upper lid."""
    upper = [texels[36:40], texels[42:46]]
    lower = [texels[[39, 40, 41, 36]], texels[[45, 46, 47, 42]]]
    dark = np.array([0.05, 0.04, 0.035], np.float32)
    _tint(color, 0.6 * chart.strokes([line - [0, 3.5 * MILLIMETRE] for line in upper], blur=0.0008), _SHADE * 0.8)
    _tint(color, 0.45 * chart.strokes(lower, thickness=2, blur=0.0008), _RED * 0.75)
    upper_rim = chart.strokes([line - [0, 0.7 * MILLIMETRE] for line in upper], thickness=2, blur=0.0005)
    _cover(color, np.clip((0.65 + 0.45 * traits.eyeliner) * upper_rim, 0, 0.92), dark)
    _cover(color, 0.3 * traits.eyeliner * chart.strokes(lower, blur=0.0004), dark)
