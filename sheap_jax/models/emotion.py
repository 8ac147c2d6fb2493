"""A network that reads emotions from the parameters of a frozen estimator: it measures how much of them they hold."""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float


class EmotionOutput(NamedTuple):
    """What the network says about B images."""

    scores: Float[Array, "b c"]  # unnormalised log probabilities of the classes
    valence: Float[Array, "b"]  # -1 to 1
    arousal: Float[Array, "b"]


class EmotionMlp(nn.Module):
    """`depth` layers of linear, batch norm and leaky ReLU, then one linear layer for everything (EMOCA's protocol)."""

    classes: int = 8
    width: int = 2048
    depth: int = 4
    slope: float = 0.2  # of the leaky ReLU below zero

    @nn.compact
    def __call__(self, features: Float[Array, "b d"], *, train: bool) -> EmotionOutput:
        """Class scores, valence and arousal. Statistics are those of the batch if `train`, else the running ones."""
        hidden = features
        for layer in range(self.depth):
            hidden = nn.Dense(self.width, name=f"dense_{layer}")(hidden)
            hidden = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm_{layer}")(hidden)
            hidden = nn.leaky_relu(hidden, self.slope)
        out = nn.Dense(self.classes + 2, name="out")(hidden)
        return EmotionOutput(out[:, : self.classes], out[:, self.classes], out[:, self.classes + 1])
