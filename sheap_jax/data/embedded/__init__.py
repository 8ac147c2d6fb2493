"""Generated clips of embedded heads: a data set with ground truth that needs no licence and no download.

People are drawn from the embedded morphable model, plus detail that its basis does not span. They get skin, hair and
clothes, and are rendered as textured meshes with a z-buffer, never with the surfels that training fits to the images.
"""

from sheap_jax.data.embedded.dataset import generate, settings_name
from sheap_jax.data.embedded.truth import Truth, load_truth

__all__ = ["Truth", "generate", "load_truth", "settings_name"]
