"""Which settings clips can be generated with."""

from collections.abc import Iterator

from sheap_jax.config import EmbeddedData
from sheap_jax.config_ranges import refuse, value_faults
from sheap_jax.data.embedded.variety import VARIETIES
from sheap_jax.morphable.embedded.density import DENSITIES

SPLITS = {"train": 0, "test": 1}  # their codes in seeds


def check_embedded(data: EmbeddedData) -> None:
    """Raises ConfigError that names every setting whose value cannot be."""
    refuse([*value_faults(data, "EmbeddedData"), *embedded_faults(data, "EmbeddedData")])


def embedded_faults(data: EmbeddedData, where: str) -> Iterator[str]:
    """What is wrong with settings besides their ranges."""
    yield from head_faults(data.people, f"{where}.people")
    if data.variety not in VARIETIES:
        yield f"{where}.variety is {data.variety!r}, it must be one of {', '.join(VARIETIES)}"
    unknown = sorted(set(data.truth_splits) - SPLITS.keys())
    if unknown:
        yield f"{where}.truth_splits names {', '.join(unknown)}, the splits are {' and '.join(SPLITS)}"


def head_faults(name: str, where: str) -> Iterator[str]:
    """What is wrong with the name of a head model; files are looked for when they are loaded."""
    kind, _, detail = name.partition(":")
    if kind == "embedded" and detail and detail not in DENSITIES:
        known = ", ".join(f"embedded:{density}" for density in DENSITIES)
        yield f"{where} is {name!r}, it must be one of {known}, or the .npz of a converted model"
