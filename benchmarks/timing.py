"""How the benchmarks measure: repeated runs of compiled functions, and what the device can do at best."""

import datetime
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SECONDS = 1.0  # each measurement repeats for about this long
REPEATS = 2, 10  # at least and at most


class Timing(NamedTuple):
    """Of one call, the best of all repeats."""

    wall_ms: float
    processor_ms: float  # of all cores together: on a busy machine the one to compare
    compile_s: float
    temporary_mb: float  # memory beside arguments and results


class DevicePeak(NamedTuple):
    """What the device reaches on the two things it does best, measured: the rates that floors divide by."""

    operations_per_s: float  # float32, of a large matrix product
    bytes_per_s: float  # read and written, of adding one to a large array


def measure(function: Callable, *arguments: object) -> Timing:
    """Compile `function` and time calls of it, each waiting for its result."""
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    wall, processor = [], []
    least, most = REPEATS
    while len(wall) < least or (sum(wall) < SECONDS and len(wall) < most):
        start, used = time.perf_counter(), _processor_seconds()
        jax.block_until_ready(compiled(*arguments))
        wall.append(time.perf_counter() - start)
        processor.append(_processor_seconds() - used)
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 1e6 if memory is not None else float("nan")
    return Timing(1e3 * min(wall), 1e3 * min(processor), compile_seconds, temporary)


def device_peak(*, side: int = 2048, megabytes: int = 256) -> DevicePeak:
    """Rates of this device, measured in about a second on two CPU cores."""
    matrix = jnp.full((side, side), 0.5, jnp.float32)
    product = measure(lambda a: jnp.matmul(a, a, precision="highest"), matrix)
    array = jnp.zeros(megabytes * 250_000, jnp.float32)
    copy = measure(lambda a: a + 1.0, array)
    return DevicePeak(
        operations_per_s=2 * side**3 / (product.wall_ms / 1e3),
        bytes_per_s=2 * array.nbytes / (copy.wall_ms / 1e3),
    )


def environment() -> dict[str, object]:
    """Where and when: goes into every results file."""
    return {
        "date": datetime.date.today().isoformat(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processors": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print a result as JSON, and write it where `output` says."""
    text = json.dumps(result, indent=2)
    print(text)
    if output:
        output.write_text(text + "\n")


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
