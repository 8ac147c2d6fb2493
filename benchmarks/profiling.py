"""Time of each operation of a compiled program, from a profile of its run."""

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Operation(NamedTuple):
    """One instruction of a compiled program."""

    instruction: str  # or the kernel's own name, if it was launched within a CUDA graph
    name: str  # that JAX gave to the operation: its scopes and its primitive; the instruction where it is unknown
    milliseconds: float  # in one call


def profile(call: Callable[[], Any], program: str, *, calls: int) -> list[Operation]:
    """Run `call` under the profiler, and list the operations of `program`, its compiled text, longest first."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                result = call()
            jax.block_until_ready(result)
        files = list(Path(folder).rglob("*.xplane.pb"))
        times = operation_times(jax.profiler.ProfileData.from_file(str(files[0])))
    names = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', program, flags=re.MULTILINE))
    # Kernels are named after their instruction, without what C does not allow in a name.
    names |= {re.sub(r"\W", "_", operation): name for operation, name in names.items()}
    found = [Operation(key, names.get(key, key), 1e3 * seconds / calls) for key, seconds in times.items()]
    return sorted(found, key=lambda one: -one.milliseconds)


def operation_times(data: Any) -> dict[str, float]:
    """Seconds of each operation, over all calls of the profile.

    A kernel that was launched within a CUDA graph goes by its own name: it does not say its operation.
    """
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    times = collections.defaultdict[str, float](float)
    for plane in devices or planes:
        for line in plane.lines:
            if line.name in ("XLA Ops", "XLA Modules", "Steps"):
                continue  # derived lines say the kernels' times again
            for event in line.events:
                operation = dict(event.stats).get("hlo_op") or (event.name if devices else None)
                if operation:
                    times[str(operation)] += event.duration_ns / 1e9
    return dict(times)
