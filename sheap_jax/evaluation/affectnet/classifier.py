"""Training of the emotion network. The same features, labels and seed give the same numbers."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sheap_jax.evaluation.affectnet.layout import CLASSES, Labels
from sheap_jax.models.emotion import EmotionMlp, EmotionOutput

LEARNING_RATE = 1e-4
BATCH_SIZE = 64
EPOCHS = 50
PATIENCE = 10  # epochs without a better loss on the held-out images
HELD_OUT = 0.1  # of the training images; ours: the protocol does not say on what it stops


class Guesses(NamedTuple):
    """What the network says about N images."""

    expression: Int[np.ndarray, "n"]
    valence: Float[np.ndarray, "n"]
    arousal: Float[np.ndarray, "n"]


class Classifier(NamedTuple):
    """A trained emotion network."""

    network: EmotionMlp
    variables: Any  # of the epoch with the best held-out loss
    epochs: int  # trained

    def guess(self, features: Float[np.ndarray, "n d"]) -> Guesses:
        out = _evaluate(self.network, self.variables, jnp.asarray(features))
        scores, valence, arousal = map(np.asarray, out)
        return Guesses(scores.argmax(axis=1), valence, arousal)


def emotion_loss(out: EmotionOutput, labels: Labels) -> Float[Array, ""]:
    """Negative log likelihood + MSE of valence and arousal + (1 - mean PCC) + (1 - mean CCC) of a batch."""
    likelihood = optax.softmax_cross_entropy_with_integer_labels(out.scores, labels.expression).mean()
    pairs = [(jnp.asarray(labels.valence), out.valence), (jnp.asarray(labels.arousal), out.arousal)]
    squares = sum(jnp.mean((truth - guess) ** 2) for truth, guess in pairs)
    agreements = [_agreement(truth, guess) for truth, guess in pairs]
    linear, concordant = (sum(values) / len(pairs) for values in zip(*agreements, strict=True))
    return likelihood + squares + (1 - linear) + (1 - concordant)


def train_classifier(
    features: Float[np.ndarray, "n d"],
    labels: Labels,
    *,
    seed: int = 0,
    width: int = 2048,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Classifier:
    """Adam on batches in which every class is equally likely; stops when the held-out loss no longer falls.

    Raises ValueError for fewer images than fill one batch beside the held-out ones.
    """
    order = np.random.default_rng((seed, 0)).permutation(len(features))
    held = max(2, round(HELD_OUT * len(features)))
    if len(features) - held < BATCH_SIZE:
        raise ValueError(f"{len(features)} images are too few: {BATCH_SIZE} make one batch, {held} are held out")
    network = EmotionMlp(classes=len(CLASSES), width=width)
    variables = network.init(jax.random.key(seed), jnp.zeros((2, features.shape[1])), train=False)
    state = optax.adam(learning_rate).init(variables["params"])
    unseen, own = order[:held], order[held:]
    best, best_loss, since, done = variables, np.inf, 0, 0
    for epoch in progress(range(epochs)):
        for batch in balanced_batches(labels.expression[own], np.random.default_rng((seed, 1, epoch))):
            rows = own[batch]
            variables, state = _step(
                network, learning_rate, variables, state, jnp.asarray(features[rows]), labels.take(rows)
            )
        done = epoch + 1
        loss = float(_held_out_loss(network, variables, jnp.asarray(features[unseen]), labels.take(unseen)))
        best, best_loss, since = (variables, loss, 0) if loss < best_loss else (best, best_loss, since + 1)
        if since >= PATIENCE:
            break
    return Classifier(network, best, done)


def balanced_batches(
    classes: Int[np.ndarray, "n"], rng: np.random.Generator, *, size: int = BATCH_SIZE
) -> Iterator[Int[np.ndarray, "size"]]:
    """One epoch: as many draws as there are images, with replacement, every class that occurs equally likely."""
    counts = np.bincount(classes)
    chance = 1.0 / counts[classes]
    drawn = rng.choice(len(classes), len(classes) // size * size, p=chance / chance.sum())
    yield from drawn.reshape(-1, size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(network: EmotionMlp, learning_rate: float, variables: Any, state: Any, features: Array, labels: Labels):
    """Variables and optimiser state after one batch."""

    def loss(params):
        out, updated = network.apply({**variables, "params": params}, features, train=True, mutable=["batch_stats"])
        return emotion_loss(out, labels), updated

    gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
    change, state = optax.adam(learning_rate).update(gradient, state)
    return {"params": optax.apply_updates(variables["params"], change), **updated}, state


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(network: EmotionMlp, variables: Any, features: Float[Array, "n d"]) -> Any:
    return network.apply(variables, features, train=False)


@functools.partial(jax.jit, static_argnums=0)
def _held_out_loss(network: EmotionMlp, variables: Any, features: Array, labels: Labels) -> Float[Array, ""]:
    return emotion_loss(_evaluate(network, variables, features), labels)


def _agreement(truth: Float[Array, "b"], guess: Float[Array, "b"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """PCC and CCC of a batch; the small number keeps a constant guess finite."""
    a, b = truth - truth.mean(), guess - guess.mean()
    covariance, variances = jnp.mean(a * b), (jnp.mean(a**2), jnp.mean(b**2))
    linear = covariance / jnp.sqrt(variances[0] * variances[1] + 1e-12)
    shift = (truth.mean() - guess.mean()) ** 2
    return linear, 2 * covariance / (variances[0] + variances[1] + shift + 1e-12)
