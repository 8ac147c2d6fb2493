"""Who is filmed: generated people, or people of a converted morphable model with the statistics of its identities."""

import dataclasses
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded.settings import SPLITS
from sheap_jax.morphable.embedded.head import embedded_person, embedded_shape
from sheap_jax.morphable.embedded.population import Population, draw_population
from sheap_jax.morphable.model import MorphableModel, neutral_vertices, points_on_faces
from sheap_jax.morphable.registry import load_morphable

EMBEDDED = "embedded:"
# Metres: middle between the eyes of the generated head. Hair, paint and garment are placed about its origin.
EYES = np.array([0.0, 0.019, 0.061], np.float32)
_EYE_LANDMARKS = slice(36, 48)


class FilmedPerson(NamedTuple):
    """One person of the data set, before any clip is made."""

    name: str
    split: str
    entropy: tuple[int, ...]  # seed of everything but the geometry
    population: Population
    neutral: Float32[np.ndarray, "v 3"]


def load_people(name: str) -> MorphableModel:
    """The model whose people `EmbeddedData.people` names, as NumPy arrays, placed where hair and clothes expect a head.

    Raises FileNotFoundError or ValueError if it is neither "embedded:<detail>" nor a converted model.
    """
    model: MorphableModel = jax.tree.map(np.asarray, load_morphable(name))
    if name.startswith(EMBEDDED):
        return model
    fixed = points_on_faces(jnp.asarray(model.template), model.faces, model.landmark_faces, model.landmark_barycentrics)
    shift = EYES - np.asarray(fixed)[_EYE_LANDMARKS].mean(axis=0)
    return dataclasses.replace(model, template=model.template + shift)


def draw_person(split: str, number: int, config: EmbeddedData, model: MorphableModel) -> FilmedPerson:
    """Person `number` of a split, ready to be filmed.

    People of a converted model have independent, standard normal identity coefficients, as its statistics say. Their
    sex, age and colours are drawn independently of these, since such a model does not know them.

    Args:
      model: of `load_people(config.people)`.
    """
    seed = person_seed(split, number, config)
    if config.people.startswith(EMBEDDED):
        person = embedded_person(seed, detail=config.people.removeprefix(EMBEDDED))
        population, neutral = person.population, person.neutral
    else:
        population, shape = _person_of_model(seed, len(model.identity_basis))
        neutral = neutral_vertices(model, jnp.asarray(shape))
    entropy = (config.seed, SPLITS[split], number)
    return FilmedPerson(f"{split}-{number:05d}", split, entropy, population, np.asarray(neutral, np.float32))


def true_shapes(split: str, config: EmbeddedData, *, coefficients: int) -> Float32[np.ndarray, "i s"]:
    """Identity coefficients of all people of a split; generated people also have detail that no coefficient spans.

    Args:
      coefficients: of the model whose people they are.
    """
    count = {"train": config.train_identities, "test": config.test_identities}[split]
    seeds = [person_seed(split, number, config) for number in range(count)]
    if config.people.startswith(EMBEDDED):
        return np.stack([embedded_shape(seed) for seed in seeds])
    return np.stack([_person_of_model(seed, coefficients)[1] for seed in seeds])


def _person_of_model(seed: int, coefficients: int) -> tuple[Population, Float32[np.ndarray, "s"]]:
    rng = np.random.default_rng([seed, 68])
    return draw_population(rng), rng.standard_normal(coefficients).astype(np.float32)


def person_seed(split: str, number: int, config: EmbeddedData) -> int:
    """Seed of a person's geometry. Seeds of the two splits never meet, whatever their sizes."""
    return int(np.random.SeedSequence((config.seed, SPLITS[split], number)).generate_state(1)[0])


def people_settings(name: str) -> dict[str, str]:
    """What of `EmbeddedData.people` decides the content: the level of detail, or the model's name and a digest of it.

    Raises FileNotFoundError or ValueError as `load_people`.
    """
    if name.startswith(EMBEDDED):
        return {"detail": name.removeprefix(EMBEDDED)}
    model = load_morphable(name)
    described = (model.joint_names, model.parents, model.expression_names)
    if model.joints_follow_expression:
        described += ("joints follow the expression",)
    digest = hashlib.sha256(repr(described).encode())
    for array in jax.tree.leaves(model):  # not the file's bytes, which carry the time of day
        digest.update(np.ascontiguousarray(array).tobytes())
    return {"people": model.name, "people_digest": digest.hexdigest()[:16]}
