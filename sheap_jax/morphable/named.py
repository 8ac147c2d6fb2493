"""The morphable model that a configuration names."""

from collections.abc import Iterator

from sheap_jax.morphable.embedded import embedded_head
from sheap_jax.morphable.embedded_density import DENSITIES
from sheap_jax.morphable.model import MorphableModel
from sheap_jax.morphable.storage import load_model


def load_morphable(name: str) -> MorphableModel:
    """The morphable model that a configuration names: "embedded:<detail>", or the path of a converted .npz."""
    kind, _, detail = name.partition(":")
    return embedded_head(detail=detail or "coarse") if kind == "embedded" else load_model(name)


def name_faults(name: str, path: str) -> Iterator[str]:
    """What is wrong with a name, for the field at `path`; files are looked for when they are loaded."""
    kind, _, detail = name.partition(":")
    if kind == "embedded" and detail and detail not in DENSITIES:
        known = ", ".join(f"embedded:{density}" for density in DENSITIES)
        yield f"{path} is {name!r}, it must be one of {known}, or the .npz of a converted model"
