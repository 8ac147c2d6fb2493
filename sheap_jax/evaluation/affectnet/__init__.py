"""AffectNet: how much of an emotion the predicted expression holds (the protocol of EMOCA, Danecek et al., CVPR 2022).

The estimator is frozen; a small network learns eight emotions, valence and arousal from its expression and jaw.
"""

from sheap_jax.evaluation.affectnet.benchmark import evaluate_affectnet
from sheap_jax.evaluation.affectnet.layout import CLASSES, Labels, load_split
from sheap_jax.evaluation.affectnet.metrics import ccc, pcc, rmse, sign_agreement

__all__ = ["CLASSES", "Labels", "ccc", "evaluate_affectnet", "load_split", "pcc", "rmse", "sign_agreement"]
