"""What a generated person looks like apart from geometry: the numbers from which skin, hair and eyes are painted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sheap_jax.data.embedded.variety import Variety
from sheap_jax.morphable.embedded.population import Population

Color = Float[np.ndarray, "3"]  # linear RGB reflectance

# sRGB anchors, chosen by eye from light to dark.
_SKIN = np.array([[234, 198, 176], [222, 176, 148], [205, 153, 120], [165, 112, 82], [118, 76, 56], [82, 54, 42]])
_HAIR = np.array(  # black, dark brown, brown, light brown, blond, red, grey
    [[20, 17, 16], [44, 30, 23], [72, 49, 34], [112, 80, 54], [178, 140, 92], [134, 66, 32], [148, 144, 140]]
)
_IRIS = np.array([[62, 38, 22], [92, 60, 32], [112, 96, 58], [84, 104, 84], [92, 122, 150], [120, 130, 138]])


class Traits(NamedTuple):
    """One person. Amounts are in [0, 1]."""

    skin: Color
    darkness: float  # 0 the lightest skin, 1 the darkest
    ruddiness: float
    age: float
    masculine: float
    freckles: float
    moles: int
    shine: float
    hair: Color
    brows: Color
    brow_density: float
    stubble: float
    beard: float
    lip: Color
    lip_contrast: float
    eyeliner: float
    iris: Color
    haircut: "Haircut"
    brow_drop: float = 0.0  # metres by which the brows lie below their landmarks
    brow_reach: float = 1.0  # their length, in that of their landmarks


class Haircut(NamedTuple):
    """Lengths in metres, angles in radians."""

    coverage: float  # 0 bald, 1 full; between: receding
    volume: float  # thickness of the hair over the skull
    fringe: float  # how far hair hangs over the forehead
    length: float  # how far it hangs below the hairline at the sides and behind
    open_angle: float  # azimuth from which on it hangs
    parting: Float[np.ndarray, "2"]  # shift of the crown (x, z)
    curl: float
    raggedness: float  # of the hairline


def srgb_to_linear(value: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """IEC 61966-2-1, input in [0, 1]."""
    value = np.asarray(value, np.float32)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def draw_traits(person: Population, rng: np.random.Generator) -> Traits:
    """Random looks that suit a person. What goes together in people does so here: dark skin and hair, age and grey."""
    darkness, masculine, age = person.ancestry, person.masculine, person.age
    skin = srgb_to_linear(_interpolate(_SKIN, darkness) / 255.0)
    skin = skin * np.exp(rng.normal(0, [0.05, 0.04, 0.06])).astype(np.float32)
    hair = _hair_color(rng, darkness, age)
    lip_contrast = float(rng.uniform(0.25, 0.7) + (1 - masculine) * rng.uniform(0, 0.3))
    lip = skin * np.array([0.82, 0.5, 0.52], np.float32) * np.exp(rng.normal(0, [0.1, 0.15, 0.15])).astype(np.float32)
    beard_kind = rng.choice(3, p=[0.45, 0.33, 0.22]) if masculine else 0
    return Traits(
        skin=skin,
        darkness=darkness,
        ruddiness=float(rng.uniform(0.2, 1.0)),
        age=age,
        masculine=masculine,
        freckles=float(max(0.0, rng.normal(0.0, 0.5)) * (1 - darkness)),
        moles=int(rng.integers(0, 7)),
        shine=float(rng.uniform(0.25, 1.0)),
        hair=hair,
        brows=np.minimum(hair * rng.uniform(0.5, 0.9), 0.12).astype(np.float32),
        brow_density=float(rng.uniform(0.45, 0.8) + 0.3 * masculine * rng.random()),
        stubble=float(rng.uniform(0.3, 1.0) if beard_kind == 1 else 0.12 * masculine),
        beard=float(rng.uniform(0.5, 1.0) if beard_kind == 2 else 0.0),
        lip=np.minimum(lip, 0.8).astype(np.float32),
        lip_contrast=lip_contrast,
        eyeliner=float(rng.uniform(0.4, 1.0) if masculine == 0 and rng.random() < 0.6 else rng.uniform(0.1, 0.4)),
        iris=_iris_color(rng, darkness),
        haircut=_draw_haircut(rng, masculine, age),
    )


def vary_looks(traits: Traits, rng: np.random.Generator, variety: Variety) -> Traits:
    """The same person with features that agree less with the geometry, as in people a painter has not seen."""
    gains = np.exp(variety.looks_spread * rng.standard_normal(6))
    return traits._replace(
        brow_drop=float(rng.normal(*variety.brow_drop)),
        brow_reach=float(rng.uniform(*variety.brow_reach)),
        brow_density=float(np.clip(traits.brow_density * gains[0], 0.1, 1.4)),
        lip_contrast=float(np.clip(traits.lip_contrast * gains[1], 0.05, 1.0)),
        stubble=float(np.clip(traits.stubble * gains[2], 0.0, 1.0)),
        shine=float(np.clip(traits.shine * gains[3], 0.1, 2.0)),
        ruddiness=float(np.clip(traits.ruddiness * gains[4], 0.1, 1.5)),
        eyeliner=float(np.clip(traits.eyeliner * gains[5], 0.05, 1.0)),
    )


def _draw_haircut(rng: np.random.Generator, masculine: float, age: float) -> Haircut:
    long = rng.random() < (0.1 if masculine else 0.78)
    bald = masculine and rng.random() < 0.08 + 0.22 * age
    fringe = float(rng.uniform(0.008, 0.03)) if rng.random() < 0.35 else float(rng.uniform(-0.006, 0.004))
    receding = float(rng.uniform(0, 0.6) * age) if masculine else 0.0
    return Haircut(
        coverage=float(rng.uniform(0.0, 0.15)) if bald else 1.0 - receding,
        volume=float(rng.uniform(0.012, 0.024) if long else rng.uniform(0.004, 0.02)),
        fringe=0.0 if bald or receding > 0.2 else fringe,
        length=float(rng.uniform(0.08, 0.24)) if long else 0.0,
        open_angle=float(rng.uniform(0.75, 1.3)),
        parting=np.array([rng.uniform(-0.045, 0.045), rng.uniform(-0.02, 0.05)], np.float32),
        curl=float(max(0.0, rng.normal(0.25, 0.35))),
        raggedness=float(rng.uniform(0.3, 1.0)),
    )


def _hair_color(rng: np.random.Generator, darkness: float, age: float) -> Color:
    weights = np.array([0.15 + 2.5 * darkness, 0.35, 0.25, 0.15, 0.16, 0.07, 0.02 + 0.45 * max(0.0, age - 0.45)])
    weights[2:6] *= max(0.02, 1 - 2 * darkness)
    chosen = _HAIR[rng.choice(len(_HAIR), p=weights / weights.sum())]
    return (srgb_to_linear(chosen / 255.0) * np.exp(rng.normal(0, 0.2))).astype(np.float32)


def _iris_color(rng: np.random.Generator, darkness: float) -> Color:
    weights = np.array([0.3 + 3 * darkness, 0.3, 0.15, 0.12, 0.2, 0.1])
    weights[2:] *= max(0.01, 1 - 2.2 * darkness)
    return srgb_to_linear(_IRIS[rng.choice(len(_IRIS), p=weights / weights.sum())] / 255.0)


def _interpolate(anchors: np.ndarray, position: float) -> Float[np.ndarray, "3"]:
    at = position * (len(anchors) - 1)
    return np.array([np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T])
