"""Accidents of clusters other than kills: the scenarios that `benchmarks/faults.py --only NAME` runs by name.

Each returns what was counted. `equal`: metrics of every step and the last checkpoint are the undisturbed run's.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAILING = ROOT / "benchmarks/failing_io.py"
LIMIT = 600  # seconds for one process to end: more is a hang
STARTS, SHARE = 4, 0.003  # starts on a failing disk, and the share of its calls that fail


class Bench(NamedTuple):
    """What `faults.py` gives to a scenario."""

    file: Path  # the configuration; runs and their log lie beside it
    expected: dict[str, Any]  # of an undisturbed run
    start: Callable[..., subprocess.Popen]
    outcome: Callable[[Path], dict[str, Any]]
    steps_written: Callable[[Path], int]

    def log(self) -> str:
        return (self.file.parent / "log.txt").read_text(errors="replace")

    def run(self, name: str) -> Path:
        return self.file.parent / name


def transient_errors(bench: Bench) -> dict[str, Any]:
    """Calls below the run fail at random; after some starts the disk is well again."""
    run, before, codes = bench.run("transient"), len(bench.log()), []
    for seed in range(STARTS):
        failing = {"FAIL_BELOW": str(run), "FAIL_SHARE": str(SHARE), "FAIL_SEED": str(seed)}
        codes.append(bench.start(bench.file, run, script=FAILING, **failing).wait(LIMIT))
        if codes[-1] == 0:
            break
    if codes[-1] != 0:
        codes.append(bench.start(bench.file, run).wait(LIMIT))
    text = bench.log()[before:]
    counts = {"errors": text.count("injected: "), "tracebacks": text.count("Traceback (most recent")}
    return {"exit_codes": codes, **counts, "equal": bench.outcome(run) == bench.expected}


def double_starts(bench: Bench) -> dict[str, Any]:
    """Two first starts at the same moment, a third one while the faster of them trains."""
    run, before = bench.run("double"), len(bench.log())
    both = [bench.start(bench.file, run) for _ in range(2)]
    while bench.steps_written(run) < 2 and any(one.poll() is None for one in both):
        time.sleep(0.01)
    third = bench.start(bench.file, run).wait(LIMIT)
    codes = sorted(one.wait(LIMIT) for one in both)
    named = bench.log()[before:].count(f"{run} is written to by process ")
    return {"exit_codes": [*codes, third], "named": named, "equal": bench.outcome(run) == bench.expected}


def full_event_disk(bench: Bench) -> dict[str, Any]:
    """What writes TensorBoard's events fails in the middle of the run."""
    run = bench.run("events")
    code = bench.start(bench.file, run, script=FAILING, FAIL_EVENTS="200").wait(LIMIT)
    return {"exit_code": code, "equal": bench.outcome(run) == bench.expected}


def data_worker(bench: Bench) -> dict[str, Any]:
    """SIGKILL for a worker of the input pipeline; then the same command, whose workers live."""
    run, options = bench.run("worker"), ("--config.data.workers=1",)
    process = bench.start(bench.file, run, *options)
    while bench.steps_written(run) < 20 and process.poll() is None:
        time.sleep(0.01)
    return {**_kill_worker(process), "equal": _goes_on(bench, run, options)}


def generator_worker(bench: Bench) -> dict[str, Any]:
    """SIGKILL for one of two processes that generate heads."""
    place = bench.run("heads")
    people = ("--train-identities", "24", "--processes", "2")
    process = _command(bench, "generate", str(place), *people)
    result = _kill_worker(process)
    left = [path.name for path in place.parent.iterdir() if place.name in path.name]
    return {**result, "left": left}


SCENARIOS = {
    "transient_errors": transient_errors,
    "double_starts": double_starts,
    "full_event_disk": full_event_disk,
    "data_worker": data_worker,
    "generator_worker": generator_worker,
}


def _goes_on(bench: Bench, run: Path, options: tuple[str, ...]) -> bool:
    return bench.start(bench.file, run, *options).wait(LIMIT) == 0 and bench.outcome(run) == bench.expected


def _command(bench: Bench, *words: str) -> subprocess.Popen:
    log = (bench.file.parent / "log.txt").open("a")
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    command = [sys.executable, "-m", "sheap_jax.commands", *words]
    return subprocess.Popen(command, env=os.environ | paths, stdout=log, stderr=log, cwd=bench.file.parent)


def _kill_worker(process: subprocess.Popen) -> dict[str, Any]:
    """Kill the first worker process that there is: how the main process ends, and after which time."""
    worker = None
    while worker is None and process.poll() is None:
        worker = next(_workers(process.pid), None)
        time.sleep(0.01)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
    begin = time.monotonic()
    code = process.wait(LIMIT)
    return {"exit_code": code, "seconds": round(time.monotonic() - begin, 1)}


def _workers(parent: int) -> Iterator[int]:
    """Numbers of the processes that multiprocessing started for work."""
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"--multiprocessing-fork" in words or b"forkserver" in words:
                yield child
