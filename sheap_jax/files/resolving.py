"""From the stand-ins of a pickle to arrays: each once, within a budget of memory and a depth of nesting."""

from collections.abc import Iterable
from typing import Any

import numpy as np

DEEPEST = 60  # containers and stand-ins within one another
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
_KEYS = (str, bytes, int, float, bool, type(None))


class UnsafePickleError(ValueError):
    """A file cannot be read: it is damaged, of another kind, or names something outside the allow-list."""


class StandIn:
    """An object of another package, by its pickled state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def put(self, items: Iterable[tuple[Any, Any]]) -> None:
        """Items that the pickle sets."""
        raise ValueError(f"it sets items of a {type(self).__name__}")

    def extend(self, values: list[Any]) -> None:
        """Values that the pickle appends."""
        raise ValueError(f"it appends to a {type(self).__name__}")

    def entry(self, resolver: "Resolver", key: str) -> Any:
        """An entry of a state that is a dict, stand-ins in it as arrays."""
        if type(self.state) is not dict:
            raise ValueError(f"the state of a {type(self).__name__} is a {type(self.state).__name__}")
        return resolver(self.state[key])

    def make(self, resolver: "Resolver") -> Any:
        """The array, or the plain value, that the object stands for."""
        raise ValueError(f"a {type(self).__name__} is not expected here")


class Resolver:
    """Replaces stand-ins by arrays in nested dicts, lists and tuples. What a pickle shares stays shared."""

    def __init__(self, budget: int) -> None:
        """`budget`: bytes that the arrays may take; a pickle can name the same data any number of times."""
        self._left, self._depth = budget, 0
        self._done: dict[int, tuple[Any, Any]] = {}  # by id: the value, which keeps its id, and its result

    def __call__(self, value: Any) -> Any:
        if type(value) in _PLAIN or isinstance(value, (np.ndarray, np.generic, np.dtype)):
            return value
        if id(value) in self._done:
            found = self._done[id(value)][1]
            if found is _IN_WORK:
                raise ValueError(f"a {type(value).__name__} holds itself")
            return found
        if self._depth == DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        self._done[id(value)] = value, _IN_WORK
        self._depth += 1
        made = self._make(value)
        self._depth -= 1
        self._done[id(value)] = value, made
        return made

    def spend(self, count: int) -> None:
        """Take bytes from the budget, before they are allocated."""
        self._left -= count
        if self._left < 0:
            raise ValueError("its arrays would take far more memory than the file has")

    def _make(self, value: Any) -> Any:
        if isinstance(value, StandIn):
            return value.make(self)
        if type(value) is dict:
            self.spend(100 * len(value))
            return plain_dict((self(key), self(item)) for key, item in value.items())
        if type(value) in (set, frozenset):
            return type(value)(check_keys([self(item) for item in value]))
        if type(value) in (list, tuple):
            self.spend(8 * len(value))
            return type(value)([self(item) for item in value])
        raise ValueError(f"a {type(value).__name__} is not expected here")


_IN_WORK = object()


def plain_dict(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict whose keys are text or numbers."""
    items = list(items)
    check_keys([key for key, _ in items])
    return dict(items)


def check_keys(keys: list[Any]) -> list[Any]:
    """The keys, if they are text, numbers, or short tuples of them: to hash a deep tuple crashes Python."""
    for key in keys:
        parts = key if type(key) is tuple and len(key) < 20 else (key,)
        if not all(type(part) in _KEYS or isinstance(part, (StandIn, np.generic)) for part in parts):
            raise ValueError(f"it uses a {type(key).__name__} as a key")
    return keys
