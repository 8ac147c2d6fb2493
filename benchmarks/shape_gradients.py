"""Does each loss know the shape? For a trained run on embedded people: its gradient against the true error of shape.

    python benchmarks/shape_gradients.py runs/small > benchmarks/results/shape_gradients_small.json

For every test person the gradient of each term with respect to that pair's shape coefficients is compared with
(predicted - true) coefficients. A cosine above 0 means that a step down this term's gradient brings the shape closer to
the truth, on average over people; below 0, that the term leads away. "Centred" is the cosine after the mean over people
is taken from both: what the term knows of the person, without what it says of everybody. Weights do not matter for the
cosine; the norm is per unit of weight.

What training follows is not each person's gradient but their sum in the estimator's parameters, where what all people
have in common counts most: "network" is the cosine of that sum with the sum that the truth would give (squared distance
of the face's vertices), "network centred" the same when the term may not move all heads alike (losses.mean_share = 0).
"""

import argparse
import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from timing import environment

from sheap_jax import assembly
from sheap_jax.config import EmbeddedData, LossWeights
from sheap_jax.data.embedded.people import person_seed
from sheap_jax.data.frames import decode_frame, stack_frames
from sheap_jax.data.records import Split
from sheap_jax.inference.predictor import Predictor
from sheap_jax.method.objective import full_objective
from sheap_jax.morphable.embedded.head import embedded_shape
from sheap_jax.types import Batch

TERMS = ("landmarks", "l1", "ssim", "gradient", "normal", "depth", "shape")
# Not terms, but parts of them.
FIXED = {"contour": 1.0, "mouth": 1.0, "background": LossWeights().background, "off_face": 1.0, "mean_share": 1.0}


def shape_gradients(predictor: Predictor, batch: Batch) -> Float[Array, "t b s"]:
    """Gradient of each of TERMS with respect to the shape coefficients of each pair by itself.

    A change of the bias of the shape head's last layer is a change of the coefficients.
    """
    settings = assembly.render_settings(predictor.config)
    assets, networks, learned = predictor.parts()
    off = {field.name: 0.0 for field in dataclasses.fields(LossWeights)} | FIXED

    def loss(change: Float[Array, "s"], chosen: Float[Array, "t"], pair: Batch) -> Array:
        params = jax.tree.map(lambda x: x, learned.params)
        last = params["estimator"]["shape_head"]["out"]
        last["bias"] = last["bias"] + change
        weights = dataclasses.replace(LossWeights(), **off | dict(zip(TERMS, chosen, strict=True)))
        probe = jnp.zeros((1, learned.prototypes.parent_face.shape[0], 2))
        return full_objective(params, probe, networks, assets, learned.prototypes, pair, weights, settings)[0]

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


def network_gradients(predictor: Predictor, images: Array, gradients: Float[Array, "t b s"]) -> Float[Array, "t p"]:
    """Gradients with respect to the shape coefficients of the images, summed up in the estimator's parameters."""

    @jax.jit
    def pull(gradients: Float[Array, "t b s"]) -> Float[Array, "t p"]:
        def shapes(params: Any) -> Array:
            output: Any = predictor.parts().networks.estimator.apply({"params": params}, images)
            return output.estimate.head.shape

        back = jax.vjp(shapes, predictor.parts().learned.params["estimator"])[1]
        return jax.lax.map(lambda one: ravel_pytree(back(one)[0])[0], gradients)

    return pull(gradients)


def compare_networks(
    predictor: Predictor, images: Array, gradients: Float[np.ndarray, "t b s"], error: Float[np.ndarray, "b s"]
) -> list[dict[str, float]]:
    """For each term the cosine of its gradient in the estimator's parameters with the truth's, raw and centred."""
    basis = np.asarray(predictor.model.identity_basis)[:, np.asarray(predictor.model.regions["face"]) > 0.5]
    truth = error @ np.einsum("ivc,jvc->ij", basis, basis)
    centred = gradients - gradients.mean(axis=1, keepdims=True)
    every = jnp.asarray(np.concatenate([truth[None], gradients, centred]), jnp.float32)
    wanted, *found = np.asarray(network_gradients(predictor, images, every), np.float64)
    cosines = [float(one @ wanted / np.linalg.norm(one) / np.linalg.norm(wanted)) for one in found]
    pairs = zip(cosines[: len(gradients)], cosines[len(gradients) :], strict=True)
    return [{"network": raw, "network_centred": without_mean} for raw, without_mean in pairs]


def _cosine(first: Float[np.ndarray, "b s"], second: Float[np.ndarray, "b s"]) -> Float[np.ndarray, "b"]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / np.maximum(lengths, 1e-30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="directory of a finished run on embedded heads")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    arguments = parser.parse_args()
    predictor = Predictor.from_checkpoint(arguments.run)
    config = predictor.config
    if not isinstance(config.data.embedded, EmbeddedData):
        parser.error(f"{arguments.run} was trained on real frames: only embedded people have a known shape")
    split = Split(assembly.ensure_data(config), arguments.split)
    batch, numbers = first_pairs(split, arguments.people, image_size=config.image_size)
    seeds = [person_seed(arguments.split, number, config.data.embedded) for number in numbers]
    true = np.stack([embedded_shape(seed) for seed in seeds])
    error = np.asarray(predictor(batch.source.image).shape) - true
    gradients = dict(zip(TERMS, np.asarray(shape_gradients(predictor, batch)), strict=True))
    every = np.stack(list(gradients.values()))
    in_network = compare_networks(predictor, batch.source.image, every, error)
    report = environment() | {
        "config": config.name,
        "step": int(predictor.parts().learned.step),
        "split": arguments.split,
        "pairs": len(numbers),
        "terms": {
            name: compare(gradient, error) | network
            for (name, gradient), network in zip(gradients.items(), in_network, strict=True)
        },
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
