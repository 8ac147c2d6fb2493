"""How the suite stays small: what JAX has compiled, and what XLA's compiler leaves behind, is given back.

Without it a process of the suite grows to 4 to 6 GiB. Half of that are free pieces between allocations of the
compiler, the other half programs whose tests are done.
"""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

LARGE = 1.8 * 2**30  # bytes; from here on memory is given back
GROWN = 0.1 * 2**30  # bytes more than after the last time, which is not done at every test


class Memory:
    """What is done about the memory of this process between tests."""

    def __init__(self) -> None:
        self._trimmed = self._cleared = 0.0  # bytes that were left, each time it was last done

    def give_back(self, *, file_ends: bool) -> None:
        """Where this process is large: free pieces go back, and compiled programs where a file of tests ends."""
        if resident() > max(LARGE, self._trimmed + GROWN):
            trim()
            self._trimmed = resident()
        if file_ends and resident() > max(LARGE, self._cleared + GROWN):
            import jax

            jax.clear_caches()
            gc.collect()
            trim()
            self._trimmed = self._cleared = resident()


def resident() -> float:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    return 0.0


def trim() -> None:
    """The C library's free pieces back to the system (glibc; others have nothing like it)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
