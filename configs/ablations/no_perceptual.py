"""Without the perceptual term, which a base only has where weights.lpips names LPIPS's weights."""

from sheap_jax.config import Config
from sheap_jax.config_files import derive


def get_config(base: str = "ablations/full") -> Config:
    return derive(base, "no_perceptual", {"weights.lpips": ""})
