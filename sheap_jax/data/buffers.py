"""Memory of batches that is used again: fresh pages cost a tenth of the loading time where a batch exceeds 32 MB."""

import math
import weakref
from collections import deque

import numpy as np
from jaxtyping import UInt8


class BufferPool:
    """Arrays of one shape, whose memory is handed out again once nobody holds it any more.

    An array lies over memory that the pool owns. Every view of it keeps it alive, also one that another library or
    thread holds. When it dies, its memory comes back. So nothing depends on how Python counts references.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: deque[np.ndarray] = deque()  # needs no lock, which a finalizer could wait for for ever

    def take(self) -> UInt8[np.ndarray, "..."]:
        """An array with arbitrary contents. It and every view of it keep its memory from being handed out again."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(math.prod(self._shape), np.uint8)
        # Over a memoryview: the base of a view of `array` is `array` then, not the memory below it.
        array = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(self._shape)

    def __reduce__(self) -> tuple[type, tuple[tuple[int, ...]]]:
        return BufferPool, (self._shape,)  # another process has its own memory
