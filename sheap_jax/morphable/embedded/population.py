"""Who the generated people are: a few factors that shape and appearance share, as they do in real people.

Sex, weight, age and ancestry each move many identity modes a little (men have stronger brows and chins, noses and ears
grow with age) and are seen in skin, hair and beards as well: this is how anybody guesses depth from a frontal photo.
The rest of every mode is independent, so that each coefficient stays standard normal. Signs follow anthropometry,
the amounts are ours: together 31 % of the variance of faces (docs/decisions.md).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Population(NamedTuple):
    """Factors of one person."""

    masculine: float  # 0 or 1
    weight: float  # standard normal
    age: float  # in [0, 1]
    ancestry: float  # in [0, 1]; also the darkness of the skin


# Share of each mode's standard deviation: masculine, weight, age, ancestry.
LOADINGS: dict[str, tuple[float, float, float, float]] = {
    "head_width": (0.30, 0.35, 0.00, -0.20),
    "head_height": (0.30, 0.00, 0.00, 0.00),
    "head_depth": (0.40, 0.10, 0.00, 0.30),
    "face_height": (0.50, 0.00, 0.15, 0.00),
    "jaw_width": (0.45, 0.45, 0.00, 0.00),
    "chin_length": (0.45, 0.00, 0.00, 0.00),
    "chin_protrusion": (0.45, 0.00, 0.15, -0.30),
    "chin_width": (0.55, 0.25, 0.00, 0.00),
    "cheekbones": (-0.30, -0.30, 0.15, 0.25),
    "cheek_fullness": (-0.10, 0.75, -0.25, 0.00),
    "brow_ridge": (0.65, 0.00, 0.10, 0.00),
    "forehead_slope": (0.55, 0.00, 0.00, 0.00),
    "nose_length": (0.30, 0.00, 0.45, -0.25),
    "nose_width": (0.20, 0.20, 0.20, 0.60),
    "nose_bridge": (0.35, 0.00, 0.10, -0.60),
    "nose_tip": (-0.30, 0.00, -0.50, 0.00),
    "nose_protrusion": (0.40, 0.00, 0.20, -0.50),
    "eye_spacing": (0.10, 0.15, 0.00, 0.35),
    "eye_depth": (-0.40, 0.00, -0.35, 0.30),
    "mouth_width": (0.30, 0.10, 0.25, 0.35),
    "mouth_protrusion": (-0.15, 0.00, -0.45, 0.55),
    "midface_protrusion": (-0.15, 0.00, -0.20, 0.40),
    "face_roundness": (-0.20, -0.45, 0.00, -0.20),
    "ear_size": (0.35, 0.00, 0.50, 0.00),
    "neck_width": (0.60, 0.50, 0.00, 0.00),
    "lip_fullness": (-0.30, 0.10, -0.45, 0.50),
    "eye_size": (-0.35, 0.00, -0.25, 0.00),
}
_AGE, _ANCESTRY = (1.3, 1.6), (1.1, 1.6)  # of beta distributions


def draw_population(rng: np.random.Generator) -> Population:
    """One person's factors."""
    return Population(
        masculine=float(rng.random() < 0.5),
        weight=float(rng.normal()),
        age=float(rng.beta(*_AGE)),
        ancestry=float(rng.beta(*_ANCESTRY)),
    )


def draw_shape(person: Population, names: tuple[str, ...], rng: np.random.Generator) -> Float[np.ndarray, "s"]:
    """Identity coefficients of the modes `names`, each of mean 0 and variance 1 over the population."""
    loadings = np.array([LOADINGS.get(name, (0.0, 0.0, 0.0, 0.0)) for name in names])
    own = np.sqrt(1.0 - np.sum(loadings**2, axis=1))
    return loadings @ _standardised(person) + own * rng.normal(size=len(names))


def _standardised(person: Population) -> Float[np.ndarray, "4"]:
    return np.array(
        [
            2.0 * person.masculine - 1.0,
            person.weight,
            _standardised_beta(person.age, *_AGE),
            _standardised_beta(person.ancestry, *_ANCESTRY),
        ]
    )


def _standardised_beta(value: float, a: float, b: float) -> float:
    return (value - a / (a + b)) / np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
