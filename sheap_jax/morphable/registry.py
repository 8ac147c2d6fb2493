"""The morphable model that a configuration names."""

from sheap_jax.config_files import ConfigError
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import MorphableModel
from sheap_jax.morphable.storage import load_model


def load_morphable(name: str) -> MorphableModel:
    """The morphable model that a configuration names: "embedded:<detail>", or the path of a converted .npz.

    Raises FileNotFoundError if there is no such file, ConfigError if it cannot be used.
    """
    kind, _, detail = name.partition(":")
    try:
        return embedded_head(detail=detail or "coarse") if kind == "embedded" else load_model(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
