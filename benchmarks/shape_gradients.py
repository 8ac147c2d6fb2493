"""Does each loss know the shape? For a trained run on embedded people: its gradient against the true error of shape.

    python benchmarks/shape_gradients.py runs/small > benchmarks/results/shape_gradients_small.json

For every test person the gradient of each term with respect to that pair's shape coefficients is compared with
(predicted - true) coefficients. A cosine above 0 means that a step down this term's gradient brings the shape closer to
the truth, on average over people; below 0, that the term leads away. "Centred" is the cosine after the mean over people
is taken from both: what the term knows of the person, without what it says of everybody. "No positions" is the gradient
through the surfels' rotations and sizes alone (losses.position_share = 0). Weights do not matter for the cosine; the
norm is per unit of weight.
"""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from timing import environment

from sheap_jax.config import EmbeddedData, LossWeights
from sheap_jax.data.embedded.dataset import person_seed
from sheap_jax.data.frames import decode_frame, stack_frames
from sheap_jax.data.records import Split
from sheap_jax.inference.predictor import Predictor
from sheap_jax.morphable.embedded import embedded_person
from sheap_jax.training import setup
from sheap_jax.training.objective import full_objective
from sheap_jax.types import Batch

TERMS = ("landmarks", "l1", "ssim", "gradient", "normal", "depth", "shape")
WITHOUT_POSITIONS = ("l1", "ssim", "gradient", "depth")  # terms whose gradient is measured so as well
# Not terms, but parts of them.
FIXED = {"contour": 1.0, "mouth": 1.0, "background": LossWeights().background, "off_face": 1.0}


def shape_gradients(predictor: Predictor, batch: Batch, *, position_share: float = 1.0) -> Float[Array, "t b s"]:
    """Gradient of each of TERMS with respect to the shape coefficients of each pair by itself.

    A change of the bias of the shape head's last layer is a change of the coefficients.
    """
    settings = setup.render_settings(predictor.config, None)
    state = predictor.state
    off = {field.name: 0.0 for field in dataclasses.fields(LossWeights)} | FIXED | {"position_share": position_share}

    def loss(change: Float[Array, "s"], chosen: Float[Array, "t"], pair: Batch) -> Array:
        params = jax.tree.map(lambda x: x, state.params)
        last = params["estimator"]["shape_head"]["out"]
        last["bias"] = last["bias"] + change
        weights = dataclasses.replace(LossWeights(), **off | dict(zip(TERMS, chosen, strict=True)))
        probe = jnp.zeros((1, state.prototypes.parent_face.shape[0], 2))
        return full_objective(
            params, probe, predictor.networks, predictor.assets, state.prototypes, pair, weights, settings
        )[0]

    @jax.jit
    def all_terms(batch: Batch) -> Float[Array, "t b s"]:
        zero = jnp.zeros(predictor.model.identity_basis.shape[0])
        pairs = jax.tree.map(lambda x: x[:, None], batch)
        return jax.lax.map(
            lambda chosen: jax.lax.map(lambda pair: jax.grad(loss)(zero, chosen, pair), pairs), jnp.eye(len(TERMS))
        )

    return all_terms(batch)


def first_pairs(split: Split, people: int, *, image_size: int) -> tuple[Batch, list[int]]:
    """The first two frames of each of the first people, and the people's numbers."""
    records, numbers = [], []
    for number in np.unique(split.index.identity)[:people]:
        of_person = np.flatnonzero(split.index.identity == number)
        if len(of_person) >= 2:
            records.append(of_person[:2])
            numbers.append(int(number))
    frames = [[decode_frame(split[int(k)], image_size=image_size) for k in pair] for pair in records]
    source, target = (stack_frames([pair[k] for pair in frames]) for k in range(2))
    return Batch(source, target, np.stack(records).astype(np.int32)), numbers


def compare(gradient: Float[np.ndarray, "b s"], error: Float[np.ndarray, "b s"]) -> dict[str, float]:
    """Mean cosine over the pairs with its standard error, the same centred, and the mean norm of the gradient."""
    cosine = _cosine(gradient, error)
    centred = _cosine(gradient - gradient.mean(axis=0), error - error.mean(axis=0))
    return {
        "cosine": float(cosine.mean()),
        "standard_error": float(cosine.std(ddof=1) / np.sqrt(len(cosine))),
        "centred": float(centred.mean()),
        "gradient_norm": float(np.linalg.norm(gradient, axis=1).mean()),
    }


def _cosine(first: Float[np.ndarray, "b s"], second: Float[np.ndarray, "b s"]) -> Float[np.ndarray, "b"]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / np.maximum(lengths, 1e-30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="directory of a finished run on embedded heads")
    parser.add_argument("--people", type=int, default=48)
    arguments = parser.parse_args()
    predictor = Predictor.from_checkpoint(arguments.run)
    config = predictor.config
    if not isinstance(config.data.embedded, EmbeddedData):
        parser.error(f"{arguments.run} was trained on real frames: only embedded people have a known shape")
    split = Split(setup.ensure_data(config), "test")
    batch, numbers = first_pairs(split, arguments.people, image_size=config.image_size)
    seeds = [person_seed("test", number, config.data.embedded) for number in numbers]
    true = np.stack([embedded_person(seed, detail="coarse").shape for seed in seeds])
    error = np.asarray(predictor(batch.source.image).shape) - true
    gradients = dict(zip(TERMS, np.asarray(shape_gradients(predictor, batch)), strict=True))
    turned = dict(zip(TERMS, np.asarray(shape_gradients(predictor, batch, position_share=0.0)), strict=True))
    gradients |= {f"{name}, no positions": turned[name] for name in WITHOUT_POSITIONS}
    report = environment() | {
        "config": config.name,
        "step": int(predictor.state.step),
        "pairs": len(numbers),
        "terms": {name: compare(gradient, error) for name, gradient in gradients.items()},
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
