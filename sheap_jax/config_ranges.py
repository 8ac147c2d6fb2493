"""The ranges in the annotations of config.py, applied to the values of a dataclass."""

import dataclasses
import math
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from sheap_jax.config import Range
from sheap_jax.config_files import ConfigError


def refuse(faults: Iterable[str]) -> None:
    """Raises ConfigError that names all faults, if there are any."""
    text = "; ".join(faults)
    if text:
        raise ConfigError(text)


def value_faults(part: Any, where: str) -> Iterator[str]:
    """What is wrong with single numbers of a dataclass and of those in it."""
    hints = typing.get_type_hints(type(part), include_extras=True)
    for name, hint in hints.items():
        value, path = getattr(part, name), f"{where}.{name}"
        if dataclasses.is_dataclass(value):
            yield from value_faults(value, path)
        elif (wanted := _range(hint)) is not None and value is not None and not _within(value, wanted):
            yield f"{path} is {value}, it must be {_in_words(wanted) if math.isfinite(value) else 'finite'}"


def _range(hint: Any) -> Range | None:
    """The range that an annotation carries, also that of an optional field."""
    for one in (hint, *typing.get_args(hint)):
        found = [extra for extra in getattr(one, "__metadata__", ()) if isinstance(extra, Range)]
        if found:
            return found[0]
    return None


def _within(value: float, wanted: Range) -> bool:
    """Whether a finite number lies in a range."""
    inside = wanted.low <= value <= wanted.high and math.isfinite(value)
    return inside and not (wanted.above and value == wanted.low)


def _in_words(wanted: Range) -> str:
    if math.isinf(wanted.high):
        return f"more than {wanted.low}" if wanted.above else f"at least {wanted.low}"
    return f"from {wanted.low} to {wanted.high}" + (f" and not {wanted.low}" if wanted.above else "")
