"""SHeaP in JAX: head geometry from one photograph, learned from 2D videos alone.

The flow of data, one direction only:

    configs -> data -> estimator -> morphable model -> Gaussian regressor -> binding -> lighting
            -> rasteriser -> losses -> train step -> loop

`from sheap_jax import Predictor` is the way in for those who only predict.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sheap_jax.inference.predictor import Predictor

__all__ = ["Predictor", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Predictor on first use: `import sheap_jax` stays light."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sheap_jax.inference.predictor import Predictor

    return Predictor
