"""Every measurement that needs a GPU, as one command for a visit of some minutes.

    python benchmarks/gpu_visit.py --minutes 9 --output visit            # the list below, in order of value
    python benchmarks/gpu_visit.py --minutes 9 --output deeper --list deeper
    python benchmarks/gpu_visit.py --minutes 9 --output visit --only step prediction --resume visit/learning.tar
    python benchmarks/gpu_visit.py --minutes 9 --output toy --toy        # a rehearsal, on any device

Each item is a process of its own. Most compile side by side, which takes the larger part of a visit; then they measure
one after the other, each with a time limit. An item that fails does not stop the others. After half of the visit those
that are ready go first; what the others still compile may then disturb them, and `beside` names it. `visit.json` holds
what every item has measured so far, is written anew while one runs, and keeps items of an earlier call into the same
folder. `log_ITEM.txt` has the output of each. The exit code is 1 if an item failed or was stopped. With
JAX_COMPILATION_CACHE_DIR set, what was compiled is kept there for another visit.
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
from visit_items import LISTS, Item

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.5
LEAST_SECONDS = 5.0  # an item does not measure with less
PREPARING = 0.5  # share of the visit after which whoever is ready begins
MARGIN = 20.0  # seconds of its limit that an item is told to leave for writing what it found


class Visit(NamedTuple):
    """Where things go, and until when."""

    output: Path
    work: Path  # items' own files
    begin: float  # time.monotonic()
    end: float
    toy: bool
    resume: Path | None  # learning.tar of an earlier visit

    def left(self) -> float:
        return self.end - time.monotonic()

    def preparing_is_over(self) -> bool:
        return time.monotonic() - self.begin > PREPARING * (self.end - self.begin)

    def start(self, item: Item) -> subprocess.Popen:
        """Run the script of an item."""
        script, *arguments = [part.format(work=self.work) for part in (item.toy if self.toy else item.command)]
        if self.resume and script == "gpu_learning.py":
            arguments += ["--resume", str(self.resume)]
        places = {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(self.work / "compiled")),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
            "PYTHONUNBUFFERED": "1",
        }
        if item.when == "turn":
            places["VISIT_TURN"] = str(self.work / item.name)
        with (self.output / f"log_{item.name}.txt").open("a") as log:
            log.write(f"\n=== {script} {' '.join(arguments)}\n")
            log.flush()
            return subprocess.Popen(
                [sys.executable, str(ROOT / "benchmarks" / script), *arguments, "--output", str(self.file(item))],
                cwd=ROOT,
                env=os.environ | places,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def file(self, item: Item) -> Path:
        return self.work / f"{item.name}.json"

    def is_ready(self, item: Item) -> bool:
        return (self.work / f"{item.name}.ready").exists()


class Job(NamedTuple):
    """An item that runs."""

    item: Item
    process: subprocess.Popen
    begin: float  # time.monotonic()


def run(visit: Visit, items: list[Item], results: dict[str, Any]) -> None:
    """Run all items, and put what they say into `results` while they run."""
    jobs: dict[str, Job] = {}
    for item in items:
        missing = missing_packages(*item.needs)
        state = f"left out: needs {', '.join(missing)}" if missing else "not reached"
        results[item.name] = {"state": state, "seconds": 0.0}
        if not missing and item.when != "alone":
            jobs[item.name] = Job(item, visit.start(item), time.monotonic())
    try:
        for job in [job for job in jobs.values() if job.item.when == "beside"]:
            limit = min(job.item.seconds, PREPARING * (visit.end - visit.begin))
            follow(visit, job, results, limit=limit)
        waiting = [item for item in items if item.when != "beside" and results[item.name]["state"] == "not reached"]
        while waiting:
            item = next_item(visit, waiting, jobs)
            waiting.remove(item)
            measure(visit, item, jobs, results)
    finally:
        for job in jobs.values():
            stop(job.process)
        write(visit, results)


def next_item(visit: Visit, waiting: list[Item], jobs: dict[str, Job]) -> Item:
    """The first of those that are ready; before half of the visit is over, only when all are."""
    while True:
        ready = [
            item
            for item in waiting
            if item.when == "alone" or visit.is_ready(item) or jobs[item.name].process.poll() is not None
        ]
        if ready and (len(ready) == len(waiting) or visit.preparing_is_over()):
            return ready[0]
        if visit.left() < LEAST_SECONDS:
            return waiting[0]
        time.sleep(POLL_SECONDS)


def measure(visit: Visit, item: Item, jobs: dict[str, Job], results: dict[str, Any]) -> None:
    """Give an item its turn."""
    found = results[item.name]
    if item.when == "turn":
        job = jobs[item.name]
        found["prepared_s"] = round(time.monotonic() - job.begin, 1)
        if job.process.poll() is None and not visit.is_ready(item):
            found["state"] = "stopped: not ready in time"
            return stop(job.process)
    if visit.left() < LEAST_SECONDS:
        found["state"] = "left out: no time"
        return
    limit = visit.left() if visit.toy else min(item.seconds, visit.left())
    if item.when == "alone":
        jobs[item.name] = Job(item, visit.start(item), time.monotonic())
    else:
        found["beside"] = [
            name
            for name, job in jobs.items()
            if name != item.name and job.process.poll() is None and not visit.is_ready(job.item)
        ]
        begin = visit.work / f"{item.name}.begin"
        begin.with_suffix(".part").write_text(str(max(limit - MARGIN, LEAST_SECONDS)))
        begin.with_suffix(".part").rename(begin)
    follow(visit, jobs[item.name], results, limit=limit)


def follow(visit: Visit, job: Job, results: dict[str, Any], *, limit: float) -> None:
    """Wait for the end of an item, or for its limit or the visit's; it has run beside others until now."""
    found, begin, state = results[job.item.name], time.monotonic(), ""
    limit = min(limit, max(visit.left(), 0.0))
    while not state:
        time.sleep(POLL_SECONDS)
        found["seconds"] = round(time.monotonic() - begin, 1)
        if job.process.poll() is not None:
            code = job.process.returncode
            state = "done" if code == 0 else f"failed: exit code {code}, see log_{job.item.name}.txt"
        elif found["seconds"] > limit:
            stop(job.process)
            state = f"stopped after its {limit:.0f} s"
        found["state"] = state or "running"
        found["result"] = read_json(visit.file(job.item)) or {}
        write(visit, results)


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # items are ended on the way out
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        begin = time.monotonic()
        end = begin + 60 * options.minutes
        resume = options.resume.absolute() if options.resume else None
        visit = Visit(options.output.absolute(), Path(work), begin, end, options.toy, resume)
        results: dict[str, Any] = read_json(visit.output / "visit.json") or {}
        run(visit, items, results)
    print(table(items, results))
    states = [results[item.name]["state"] for item in items]
    sys.exit(int(any(state.startswith(("failed", "stopped")) for state in states)))


if __name__ == "__main__":
    main()
