"""Which code composites, for each implementation."""

import functools

from tileraster.splats import xla
from tileraster.splats.composited import Compositor
from tileraster.validation import current_device


def compositor_of(implementation: str) -> Compositor:
    """The compositor of an implementation that `validation.choose_implementation` has let through."""
    return _compositor(implementation, current_device().device_kind)


@functools.cache
def _compositor(implementation: str, device_kind: str) -> Compositor:
    if implementation == "xla":
        return Compositor(tile=xla.TILE, composite=xla.composite)
    # Pallas is imported where it is used: it takes a second.
    from tileraster.pallas.composite import composite
    from tileraster.pallas.kernels import kernels_of

    kernels = kernels_of(implementation, device_kind)
    return Compositor(tile=kernels.tile, composite=functools.partial(composite, kernels=kernels))
