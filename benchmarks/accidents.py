"""Accidents of clusters other than kills: the scenarios that `benchmarks/faults.py --only NAME` runs by name.

Each returns what was counted. `equal`: metrics of every step and the last checkpoint are the undisturbed run's.
"""

import os
import random
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
DISKS = 5  # that are full at a random moment


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


def full_disk(bench: Bench) -> dict[str, Any]:
    """A disk that is full at a random moment of the run, then gets more room; a new disk each time.

    Everybody's writes meet it, also those of Orbax's C++. Needs the right to mount.
    """
    if os.geteuid() != 0:
        raise PermissionError("full_disk mounts small disks: run it as root, in a container for instance")
    generator, codes, equal = random.Random(0), [], 0
    size = sum(path.stat().st_size for path in bench.run("whole").rglob("*"))
    before = len(bench.log())
    for number in range(DISKS):
        disk = bench.run(f"disk{number}")
        disk.mkdir()
        room = int(size * generator.uniform(0.02, 0.95))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], check=True)
        try:
            codes.append(bench.start(bench.file, disk / "run").wait(LIMIT))
            subprocess.run(["mount", "-o", f"remount,size={4 * size}", disk], check=True)
            equal += _goes_on(bench, disk / "run", ())
        finally:
            subprocess.run(["umount", disk], check=True)
    text = bench.log()[before:]
    named, tracebacks = text.count(" is full while "), text.count("Traceback (most recent")
    return {"exit_codes": codes, "named": named, "tracebacks": tracebacks, "equal": equal}


def preparation_worker(bench: Bench) -> dict[str, Any]:
    """SIGKILL for one of two processes that convert clips; then the same command with `--retry-failed`."""
    from tests.data.tiny_videos import all_points, write_landmarks, write_video

    folder = bench.run("videos")
    files = [write_video(folder / "in" / f"{number:02d}.mp4") for number in range(40)]
    points = write_landmarks(folder / "points.npz", {file.name: all_points() for file in files})
    words = ("prepare", str(folder / "in"), "--landmarks", str(points), "--image-size", "32", "--processes", "2")
    words = (*words, "--min-face", "0", "--min-sharpness", "0")
    if _command(bench, *words, "--output", str(folder / "whole")).wait(LIMIT) != 0:
        raise RuntimeError(f"the undisturbed preparation failed: {bench.log()[-2000:]}")
    killed = _kill_worker(_command(bench, *words, "--output", str(folder / "killed")))
    again = _command(bench, *words, "--output", str(folder / "killed"), "--retry-failed").wait(LIMIT)
    whole, other = (
        {path.name: path.read_bytes() for path in (folder / name).glob("*.array_record")}
        for name in ("whole", "killed")
    )
    return {**killed, "exit_code_again": again, "equal": whole == other and bool(whole)}


SCENARIOS = {
    "transient_errors": transient_errors,
    "double_starts": double_starts,
    "full_event_disk": full_event_disk,
    "data_worker": data_worker,
    "generator_worker": generator_worker,
    "preparation_worker": preparation_worker,
    "full_disk": full_disk,
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
