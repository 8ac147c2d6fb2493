"""Every measurement that needs a GPU, as one command for a visit of some minutes.

    python benchmarks/gpu_visit.py --minutes 9 --output visit            # the list below, in order of value
    python benchmarks/gpu_visit.py --minutes 9 --output deeper --list deeper
    python benchmarks/gpu_visit.py --minutes 9 --output visit --only step prediction --resume visit/learning.tar
    python benchmarks/gpu_visit.py --minutes 9 --output toy --toy        # a rehearsal, on any device

Each item is a process of its own with its own time limit; one that fails does not stop the others. `visit.json` holds
what every item has measured so far, and is written anew every few seconds; it keeps items of an earlier call into the
same folder. `log.txt` has their output. The exit code is 1 if an item failed or was stopped. The training step is
compiled, and clips of generated people are rendered, in the background from the start. Items name what ran beside them.
Needs jax, flax, optax, orbax-checkpoint, opencv, scipy, matplotlib and tqdm; items that need more are left out with the
names of what is missing. The package need not be installed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from timing import missing_packages
from visit_items import BACKGROUND, LISTS, TOY_BACKGROUND, Item

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 2.0
LEAST_SECONDS = 5.0  # an item is not started with less
MOST_PATIENCE = 120.0  # seconds that an item waits for the background


class Visit(NamedTuple):
    """Where things go, and until when."""

    output: Path
    work: Path  # items' own files
    end: float  # time.monotonic()
    toy: bool
    resume: Path | None  # learning.tar of an earlier visit

    def left(self) -> float:
        return self.end - time.monotonic()

    def start(self, arguments: list[str]) -> subprocess.Popen:
        """Run a script of benchmarks/."""
        places = {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
            "JAX_COMPILATION_CACHE_DIR": str(self.work / "compiled"),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
            "PYTHONUNBUFFERED": "1",
        }
        with (self.output / "log.txt").open("a") as log:
            log.write(f"\n=== {' '.join(arguments)}\n")
            log.flush()
            return subprocess.Popen(
                [sys.executable, str(ROOT / "benchmarks" / arguments[0]), *arguments[1:]],
                cwd=ROOT,
                env=os.environ | places,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def run_item(visit: Visit, item: Item, results: dict[str, Any], background: dict[str, subprocess.Popen]) -> None:
    """Run one item, and put what it says into `results` while it runs."""
    found: dict[str, Any] = {"state": "left out", "seconds": 0.0}
    results[item.name] = found
    missing = missing_packages(*item.needs)
    if missing:
        found["state"] = f"left out: needs {', '.join(missing)}"
        return
    if visit.left() < LEAST_SECONDS:
        found["state"] = "left out: no time"
        return
    found["waited"] = wait_for([background[name] for name in item.prepares if name in background], visit)
    file = visit.work / f"{item.name}.json"
    limit = visit.left() if visit.toy else min(item.seconds, visit.left())
    found["beside"] = [name for name, process in background.items() if process.poll() is None]
    begin = time.monotonic()
    process = visit.start([*fill_in(item.toy if visit.toy else item.command, visit, limit), "--output", str(file)])
    state = ""
    while not state:
        time.sleep(POLL_SECONDS)
        found["seconds"] = round(time.monotonic() - begin, 1)
        if process.poll() is not None:
            state = "done" if process.returncode == 0 else f"failed: exit code {process.returncode}, see log.txt"
        elif found["seconds"] > limit:
            stop(process)
            state = f"stopped after its {limit:.0f} s"
        found["state"] = state or "running"
        found["result"] = read_json(file) or {}
        write(visit, results)


def wait_for(processes: list[subprocess.Popen], visit: Visit) -> float:
    """Wait a while for the background work that an item needs; otherwise the item would do it again."""
    begin = time.monotonic()
    while any(process.poll() is None for process in processes):
        if time.monotonic() - begin > MOST_PATIENCE or visit.left() < LEAST_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    return round(time.monotonic() - begin, 1)


def fill_in(command: list[str], visit: Visit, limit: float) -> list[str]:
    """The command with {work}, {output} and {seconds}, what an item may spend on its work, filled in."""
    places = {"work": visit.work, "seconds": max(round(limit - 20), 10)}
    filled = [part.format(**places) for part in command]
    if visit.resume and "gpu_learning.py" in command:
        filled += ["--resume", str(visit.resume)]
    return filled


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a file that another process writes; None if it is not there or not complete."""
    try:
        return json.loads(file.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def stop(process: subprocess.Popen) -> None:
    """End a process with all its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def write(visit: Visit, results: dict[str, Any]) -> None:
    unfinished = visit.work / "visit.json"
    unfinished.write_text(json.dumps(results, indent=1) + "\n")
    (visit.output / "visit.json").write_text(unfinished.read_text())
    for file in (*visit.work.glob("*.tar"), *visit.work.glob("*.png")):
        target = visit.output / file.name
        if not target.exists() or target.stat().st_mtime < file.stat().st_mtime:
            target.write_bytes(file.read_bytes())


def table(items: list[Item], results: dict[str, Any]) -> str:
    """A row for each item: state, seconds, and the figures that matter most."""
    lines = ["| item | state | s | found |", "| --- | --- | ---: | --- |"]
    for item in items:
        found = results.get(item.name, {"state": "not reached", "seconds": 0.0})
        try:
            headline = item.headline(found["result"]) if found.get("result") else ""
        except (KeyError, IndexError, TypeError, ValueError) as error:
            headline = f"result incomplete ({type(error).__name__}: {error})"
        lines.append(f"| {item.name} | {found['state']} | {found['seconds']:.0f} | {headline} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder; made if it is not there")
    parser.add_argument("--list", choices=sorted(LISTS), default="first")
    parser.add_argument("--only", nargs="+", metavar="ITEM", help="of the list")
    parser.add_argument(
        "--resume", type=Path, metavar="learning.tar", help="training of an earlier visit to go on with"
    )
    parser.add_argument(
        "--toy", action="store_true", help="tiny sizes, to try the visit on any device; only --minutes limits"
    )
    options = parser.parse_args()
    items = [item for item in LISTS[options.list] if not options.only or item.name in options.only]
    unknown = set(options.only or []) - {item.name for item in items}
    if unknown:
        names = ", ".join(item.name for item in LISTS[options.list])
        parser.error(f"no item {', '.join(sorted(unknown))}; the list has {names}")
    if not 0 < options.minutes < 1e4:
        parser.error(f"--minutes is {options.minutes}, it must be more than 0")
    if options.resume and not (options.resume.is_file() and tarfile.is_tarfile(options.resume)):
        parser.error(f"--resume: {options.resume} is no learning.tar of an earlier visit")
    if options.output.exists() and not options.output.is_dir():
        parser.error(f"--output: {options.output} is a file, name a folder")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        end = time.monotonic() + 60 * options.minutes
        resume = options.resume.absolute() if options.resume else None
        visit = Visit(options.output.absolute(), Path(work), end, options.toy, resume)
        results: dict[str, Any] = read_json(visit.output / "visit.json") or {}
        for item in items:
            results.pop(item.name, None)
        wanted = {name for item in items for name in item.prepares}
        background = {
            name: visit.start(fill_in(command, visit, visit.left()))
            for name, command in (TOY_BACKGROUND if options.toy else BACKGROUND).items()
            if name in wanted
        }
        try:
            for item in items:
                run_item(visit, item, results, background)
        finally:
            for process in background.values():
                stop(process)
            write(visit, results)
    print(table(items, results))
    states = [results.get(item.name, {}).get("state", "") for item in items]
    sys.exit(int(any(state.startswith(("failed", "stopped")) for state in states)))


if __name__ == "__main__":
    main()
