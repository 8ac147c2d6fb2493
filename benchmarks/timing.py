"""How the benchmarks measure: repeated runs of compiled functions, and the highest rates of the device."""

import datetime
import functools
import importlib.util
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

K = TypeVar("K")
SECONDS = 1.0  # each measurement repeats for about this long
REPEATS = 2, 10  # at least and at most
PEAK_SIZES = {"cpu": (2048, 256), "accelerator": (8192, 4096)}  # side of the matrices; megabytes of the array
QUEUE_SECONDS, MOST_QUEUED = 0.05, 50  # how much is queued on an accelerator before the clock is read


class Timing(NamedTuple):
    """Of one call, the best of all repeats."""

    wall_ms: float
    processor_ms: float  # of all cores together: on a busy machine the one to compare
    compile_s: float
    temporary_mb: float  # memory beside arguments and results


class CompiledProgram(NamedTuple):
    """A compiled function and the arguments that it is timed with."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    compile_s: float
    temporary_mb: float

    def __call__(self) -> Any:
        return self.run(*self.arguments)


class DevicePeak(NamedTuple):
    """The highest rates that were measured on the device: floors divide by them."""

    operations_per_s: float  # float32, of a large matrix product
    bytes_per_s: float  # read and written, of adding one to a large array
    bfloat16_per_s: float | None = None  # operations of a large matrix product, where that is faster than float32


def compile_program(function: Callable, *arguments: Any) -> CompiledProgram:
    """Compile `function` for these arguments."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 1e6 if memory is not None else float("nan")
    return CompiledProgram(compiled, arguments, time.perf_counter() - start, temporary)


def compile_all(functions: Mapping[K, tuple[Callable, tuple[Any, ...]]]) -> dict[K, CompiledProgram]:
    """Programs of several functions with their arguments, compiled side by side: XLA does not hold Python's lock."""
    if not functions:
        return {}
    with ThreadPoolExecutor(min(len(functions), os.cpu_count() or 1)) as pool:
        jobs = {name: pool.submit(compile_program, function, *args) for name, (function, args) in functions.items()}
        return {name: job.result() for name, job in jobs.items()}


def time_program(program: CompiledProgram) -> Timing:
    """Time calls. On an accelerator many are queued and the last is waited for, else the launch would be timed."""
    jax.block_until_ready(program())
    start = time.perf_counter()
    jax.block_until_ready(program())
    once = time.perf_counter() - start
    on_cpu = jax.default_backend() == "cpu"
    queue = 1 if on_cpu else max(1, min(MOST_QUEUED, math.ceil(QUEUE_SECONDS / once)))
    wall, processor = [], []
    least, most = REPEATS
    while len(wall) < least or (queue * sum(wall) < SECONDS and len(wall) < most):
        start, used = time.perf_counter(), _processor_seconds()
        for _ in range(queue):
            result = program()
        jax.block_until_ready(result)
        wall.append((time.perf_counter() - start) / queue)
        processor.append((_processor_seconds() - used) / queue)
    return Timing(1e3 * min(wall), 1e3 * min(processor), program.compile_s, program.temporary_mb)


def measure(function: Callable, *arguments: Any) -> Timing:
    """Compile `function` and time calls of it."""
    jax.clear_caches()
    return time_program(compile_program(function, *arguments))


@functools.cache
def device_peak() -> DevicePeak:
    """Rates of this device, measured once, in some seconds. Random numbers, as products of zeros are faster on some."""
    on_cpu = jax.default_backend() == "cpu"
    side, megabytes = PEAK_SIZES["cpu" if on_cpu else "accelerator"]

    def rate(dtype: Any) -> float:
        one, other = jax.random.normal(jax.random.key(0), (2, side, side), dtype)
        product = measure(lambda a, b: jnp.matmul(a, b, precision="highest"), one, other)
        return 2 * side**3 / (product.wall_ms / 1e3)

    array = jax.random.uniform(jax.random.key(0), (megabytes * 250_000,))
    copy = measure(lambda a: a + 1.0, array)
    return DevicePeak(
        operations_per_s=rate(jnp.float32),
        bytes_per_s=2 * array.nbytes / (copy.wall_ms / 1e3),
        bfloat16_per_s=None if on_cpu else rate(jnp.bfloat16),
    )


def wait_for_turn(seconds: float = math.inf) -> float:
    """Before the first measurement, when all is compiled: wait until no other item of a visit measures.

    Returns how many seconds the visit leaves for measuring; `seconds` outside of one. See gpu_visit.py.
    """
    turn = os.environ.get("VISIT_TURN")
    if not turn:
        return seconds
    Path(f"{turn}.ready").touch()
    begin, visit = Path(f"{turn}.begin"), os.getppid()
    while not begin.exists():
        if os.getppid() != visit:
            sys.exit("the visit has ended")
        time.sleep(0.1)
    return float(begin.read_text())


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


def missing_packages(*names: str) -> list[str]:
    """Which of these modules cannot be imported."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def require(*names: str) -> None:
    """End the script with the names of the packages that it needs and that are not installed."""
    missing = missing_packages(*names)
    if missing:
        sys.exit(f"needs {' and '.join(missing)}: pip install {' '.join(missing).replace('_', '-')}")


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print a result as JSON, and write it where `output` says."""
    text = json.dumps(result, indent=2)
    print(text)
    if output:
        output.write_text(text + "\n")


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
