"""The NoW benchmark: neutral heads from single photographs against scans (Sanyal et al., CVPR 2019).

`evaluate_now` runs a network and writes the official submission, `score_predictions` measures any method's meshes.
"""

from sheap_jax.evaluation.now.layout import CHALLENGES, Missing, MissingPredictionsError, NowFolder, NowImage
from sheap_jax.evaluation.now.network import evaluate_now
from sheap_jax.evaluation.now.predict import predict_now
from sheap_jax.evaluation.now.score import NowErrors, now_report, score_predictions

__all__ = [
    "CHALLENGES",
    "Missing",
    "MissingPredictionsError",
    "NowErrors",
    "NowFolder",
    "NowImage",
    "evaluate_now",
    "now_report",
    "predict_now",
    "score_predictions",
]
