"""How well two lists of numbers agree. float64; standard deviations are those of the population."""

import numpy as np
from jaxtyping import Float, Int


def rmse(truth: Float[np.ndarray, "n"], guess: Float[np.ndarray, "n"]) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((np.asarray(truth, np.float64) - guess) ** 2)))


def sign_agreement(truth: Float[np.ndarray, "n"], guess: Float[np.ndarray, "n"]) -> float:
    """Share of pairs with the same sign (SAGR); zero has a sign of its own."""
    return float(np.mean(np.sign(truth) == np.sign(guess)))


def pcc(truth: Float[np.ndarray, "n"], guess: Float[np.ndarray, "n"]) -> float:
    """Pearson's correlation; 0 if one of the two is constant."""
    truth, guess = np.asarray(truth, np.float64), np.asarray(guess, np.float64)
    spread = truth.std() * guess.std()
    return float(np.mean((truth - truth.mean()) * (guess - guess.mean())) / spread) if spread > 0 else 0.0


def ccc(truth: Float[np.ndarray, "n"], guess: Float[np.ndarray, "n"]) -> float:
    """Concordance correlation: 2 rho s s' / (s^2 + s'^2 + (mu - mu')^2) (Lin 1989)."""
    truth, guess = np.asarray(truth, np.float64), np.asarray(guess, np.float64)
    total = truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2
    return float(2 * pcc(truth, guess) * truth.std() * guess.std() / total) if total > 0 else 0.0


def class_accuracy(truth: Int[np.ndarray, "n"], guess: Int[np.ndarray, "n"], *, classes: int) -> Float[np.ndarray, "c"]:
    """Share of the images of each class that are given that class; NaN for a class without images."""
    counts = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[truth == guess], minlength=classes)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
