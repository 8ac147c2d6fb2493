"""Memory of batches that is used again: fresh pages would cost a tenth of the decoding time."""

import sys
import threading

import numpy as np
from jaxtyping import UInt8


class BufferPool:
    """Arrays of one shape, each handed out again once nobody holds it any more."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._buffers: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self) -> UInt8[np.ndarray, "..."]:
        """An array with arbitrary contents. It and every view of it keep its memory from being handed out again."""
        with self._lock:
            for buffer in self._buffers:
                # Three references: the list's, the loop's and the argument's. Whoever uses the memory adds one, since
                # views refer to the array that owns it.
                if sys.getrefcount(buffer) == 3:
                    return buffer.view()
            self._buffers.append(np.empty(self._shape, np.uint8))
            return self._buffers[-1].view()

    def __reduce__(self) -> tuple[type, tuple[tuple[int, ...]]]:
        return BufferPool, (self._shape,)  # another process has its own memory
