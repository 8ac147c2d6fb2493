"""The morphable model that a configuration names."""

from sheap_jax.morphable.embedded import embedded_head
from sheap_jax.morphable.model import MorphableModel
from sheap_jax.morphable.storage import load_model


def load_morphable(name: str) -> MorphableModel:
    """The morphable model that a configuration names: "embedded:<detail>", or the path of a converted .npz."""
    kind, _, detail = name.partition(":")
    return embedded_head(detail=detail or "coarse") if kind == "embedded" else load_model(name)
