"""Ties a training to the scores of held-out pairs: rooms of training and evaluation do not know each other."""

import logging
from pathlib import Path

import numpy as np

from sheap_jax.config import Config
from sheap_jax.data.records import ShardError
from sheap_jax.evaluation.held_out import HeldOutPairs, HeldOutScores, load_held_out_pairs, score_pairs
from sheap_jax.evaluation.predictions import NetworkUnderTest
from sheap_jax.files.pictures import save_picture
from sheap_jax.training import sharding
from sheap_jax.training.metrics import MetricWriter

log = logging.getLogger(__name__)


class Validation:
    """The held-out pairs of a run, and when they are scored."""

    def __init__(self, config: Config, directory: Path):
        pairs = _open_pairs(config, directory)
        # Scoring is the work of all processes together: where one has no pairs, none scores.
        self._pairs = pairs if sharding.on_all(pairs is not None) else None
        self._every, self._steps = config.log.validate_every, config.steps

    def is_due(self, step: int) -> bool:
        """Every so many steps, and at the end; never where nothing is held out."""
        return self._pairs is not None and (step % self._every == 0 or step == self._steps)

    def score(self, network: NetworkUnderTest) -> HeldOutScores:
        """Scores; on all processes those of the first, so that they agree which checkpoint is the best."""
        assert self._pairs is not None, "is_due says when"
        scores = score_pairs(network, self._pairs)
        names = sorted(scores.values)
        agreed = sharding.as_leader(np.array([scores.score, *(scores.values[name] for name in names)]))
        return scores._replace(score=float(agreed[0]), values=dict(zip(names, map(float, agreed[1:]), strict=True)))


def show(scores: HeldOutScores, step: int, run: Path, writer: MetricWriter) -> None:
    """Write the picture of the pairs, to the run and to TensorBoard."""
    if sharding.leads():
        save_picture(scores.picture, run / "pictures" / f"held-out-{step:07d}.png")
    writer.write_image(step, "held-out", scores.picture)


def _open_pairs(config: Config, directory: Path) -> HeldOutPairs | None:
    """None, and a line in the log, where nothing is held out."""
    if not config.log.validate_every:
        return None
    try:
        return load_held_out_pairs(directory, image_size=config.image_size)
    except (ShardError, ValueError) as error:
        log.warning(
            "no held-out numbers while training, and no best checkpoint: %s. Prepare with --test-share 0.1, or set "
            "config.log.validate_every=0", error
        )  # fmt: skip
        return None
