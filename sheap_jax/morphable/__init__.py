"""Morphable models: one pytree, one forward function, loaders that differ only in the data they read."""

from sheap_jax.morphable.model import MorphableModel as MorphableModel
from sheap_jax.morphable.model import forward as forward
from sheap_jax.morphable.model import landmarks as landmarks
from sheap_jax.morphable.model import mean_params as mean_params
from sheap_jax.morphable.model import neutral_vertices as neutral_vertices
