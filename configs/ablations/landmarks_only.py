"""Landmarks and priors alone: no step renders a picture, as none would teach anything (training/step.py)."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    terms = ("l1", "ssim", "gradient", "perceptual", "normal", "depth", "offset", "scale")
    return derive(base, "landmarks_only", {f"losses.{term}": 0.0 for term in terms})
