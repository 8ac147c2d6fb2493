"""A pytest plugin: the jaxtyping annotations of the pure modules are checked at every call (tests/test_shapes.py)."""

from collections.abc import Callable

import jaxtyping
from beartype import BeartypeConf, beartype

MODULES = ("sheap_jax.geometry", "sheap_jax.cropping", "sheap_jax.method", "tileraster")

CONFIGURATION = BeartypeConf(is_pep484_tower=True)  # an int may stand for a float


def checked(function: Callable) -> Callable:
    """The function with its annotations checked."""
    return beartype(function, conf=CONFIGURATION)


jaxtyping.install_import_hook(list(MODULES), "tests.shape_checks.checked")
