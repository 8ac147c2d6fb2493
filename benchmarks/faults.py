"""Kill a training at random moments, again and again, and compare what it ends with to an undisturbed run.

    nice -n 19 python benchmarks/faults.py --kills 100      # writes benchmarks/results/faults.json

A small run on embedded heads (the quickstart's networks, both kinds of steps, densification) is started with the same
command until it ends; every start but the last of a round gets SIGKILL: inside a save, after a random time of steps, or
while it starts up. Then its metrics of every step and its last checkpoint must equal the undisturbed run's bit by bit.
Two more faults: SIGTERM, and SIGKILL for one of two processes. `--only NAME ...` runs those of accidents.py instead,
and adds them to the results.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from accidents import SCENARIOS, Bench
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/faults.json"
KINDS = ("inside a save", "after some steps", "while starting")
STEPS, SAVE_EVERY = 60, 6


def write_config(folder: Path) -> Path:
    """A configuration file of the small run, its data generated."""
    from sheap_jax import config_files
    from sheap_jax.config import EmbeddedData
    from sheap_jax.data.embedded import generate

    data = EmbeddedData(train_identities=12, test_identities=2, clips_per_identity=1, frames_per_clip=2)
    shards = generate(str(folder / "shards"), data)
    config = config_files.load_file(ROOT / "configs/quickstart.py")
    config = dataclasses.replace(
        config,
        steps=STEPS,
        geometry_steps=STEPS // 2,
        batch_size=2,
        image_size=48,
        data=dataclasses.replace(config.data, directory=str(shards), embedded=None),
        prototypes=dataclasses.replace(config.prototypes, capacity_per_face=1.5, densify_every=7),
        log=dataclasses.replace(config.log, metrics_every=1, pictures_every=0, checkpoint_every=SAVE_EVERY),
    )
    config_files.save_json(config, folder / "config.json")
    file = folder / "config.py"
    file.write_text(
        "from sheap_jax.config_files import load_json\n"
        f"def get_config():\n    return load_json({str(folder / 'config.json')!r})\n"
    )
    return file


def start(
    file: Path, run: Path, *options: str, script: Path = ROOT / "train.py", **environment: str
) -> subprocess.Popen:
    """The same command for every start; `script` is what runs in place of train.py."""
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    command = [sys.executable, str(script), "--config", str(file), f"--config.log.directory={run}", *options]
    log = (file.parent / "log.txt").open("a")
    return subprocess.Popen(command, env=os.environ | paths | environment, stdout=log, stderr=log, cwd=file.parent)


def steps_written(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def is_saving(run: Path) -> bool:
    """Whether a checkpoint is being written: not yet renamed, or not yet with its checksums."""
    found = list((run / "checkpoints").glob("*"))
    named = {path.name for path in found}
    return any("tmp" in name or (name.isdigit() and f"{name}.sha256.json" not in named) for name in named)


def kill_once(process: subprocess.Popen, run: Path, kind: str, rng: random.Random) -> bool:
    """Wait for the moment and kill; False if the run ended before."""
    begin, steps = time.monotonic(), steps_written(run)
    startup, more = rng.uniform(0.5, 12.0), rng.randint(1, 2 * SAVE_EVERY)
    while process.poll() is None:
        saving = kind == "inside a save" and steps_written(run) > steps and is_saving(run)
        stepping = kind == "after some steps" and steps_written(run) >= steps + more
        starting = kind == "while starting" and time.monotonic() - begin > startup
        if saving or stepping or starting:
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            return process.wait() == -signal.SIGKILL
        time.sleep(0.001)
    return False


def outcome(run: Path) -> dict[str, Any]:
    """Metrics of every step and a digest of the last checkpoint's arrays."""
    import jax
    import orbax.checkpoint as ocp

    from sheap_jax.training.metrics import read_metrics
    from sheap_jax.training.speed import without_speed

    manager = ocp.CheckpointManager(run / "checkpoints", item_handlers=ocp.StandardCheckpointHandler())
    restored: Any = manager.restore(STEPS)
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(restored)[0]:
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    manager.close()
    return {"metrics": list(map(without_speed, read_metrics(run / "metrics.jsonl"))), "digest": digest.hexdigest()}


def kill_often(file: Path, expected: dict[str, Any], *, kills: int, seconds: float, seed: int) -> dict[str, Any]:
    """Rounds of the run until so many kills have struck or the time is over."""
    rng, struck, rounds, equal = random.Random(seed), Counter[str](), 0, 0
    end = time.monotonic() + seconds
    progress = tqdm(total=kills, unit="kill")
    while sum(struck.values()) < kills and time.monotonic() < end:
        run = file.parent / f"round{rounds}"
        rounds += 1
        while True:
            kind = rng.choice(KINDS)
            process = start(file, run)
            wanted = sum(struck.values()) < kills and time.monotonic() < end
            if wanted and kill_once(process, run, kind, rng):
                struck[kind] += 1
                progress.update()
                continue
            if process.wait() != 0:
                raise RuntimeError(f"a start failed by itself, see {file.parent / 'log.txt'}")
            break
        equal += outcome(run) == expected
        shutil.rmtree(run)
    progress.close()
    return {"kills": sum(struck.values()), "by_moment": dict(struck), "rounds": rounds, "bit_equal_rounds": equal}


def preempt(file: Path) -> dict[str, Any]:
    """SIGTERM in the middle: how it ends, and how long that takes."""
    run = file.parent / "preempted"
    process = start(file, run)
    while steps_written(run) < SAVE_EVERY + 2 and process.poll() is None:
        time.sleep(0.01)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    saved = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    return {"exit_code": code, "seconds": round(time.monotonic() - begin, 1), "saved": saved == steps_written(run)}


def lose_a_peer(file: Path) -> dict[str, Any]:
    """SIGKILL for one of two processes: how long the other goes on, and what it says."""
    run = file.parent / "peers"
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    group = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    options = ("--config.steps=1000000",)
    peers = [start(file, run, *options, JAX_PROCESS_ID=str(index), **group) for index in range(2)]
    while steps_written(run) < SAVE_EVERY + 2 and all(peer.poll() is None for peer in peers):
        time.sleep(0.01)
    peers[1].kill()
    begin = time.monotonic()
    code = peers[0].wait(timeout=600)
    log = (file.parent / "log.txt").read_text()
    # The heartbeat's message, or that of the transfer between the two that failed first.
    reasons = [line for line in log.splitlines() if "heartbeat" in line.lower() or "by peer" in line]
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "exit_code": code,
        "reason": reasons[0][:300] if reasons else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further kills after that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), default=[], help="these accidents, no kills")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = write_config(Path(folder))
        print("one undisturbed run", flush=True)
        if start(file, file.parent / "whole").wait() != 0:
            sys.exit((file.parent / "log.txt").read_text()[-3000:])
        expected = outcome(file.parent / "whole")
        report: dict[str, Any]
        if arguments.only:
            report = json.loads(RESULTS.read_text())
            bench = Bench(file, expected, start, outcome, steps_written)
            for name in arguments.only:
                report.setdefault("accidents", {})[name] = SCENARIOS[name](bench)
                print(name, json.dumps(report["accidents"][name]), flush=True)
                if not arguments.dry_run:  # after each: hours of measurement outlive the accident of a later one
                    save(report)
            return
        accidents = json.loads(RESULTS.read_text()).get("accidents", {})
        report = {"steps": STEPS, "checkpoint_every": SAVE_EVERY, "accidents": accidents}
        report["sigterm"] = preempt(file)
        print(json.dumps(report["sigterm"]), flush=True)
        report["peer_killed"] = lose_a_peer(file)
        print(json.dumps(report["peer_killed"]), flush=True)
        report["sigkill"] = kill_often(
            file, expected, kills=arguments.kills, seconds=60 * arguments.minutes, seed=arguments.seed
        )
    write(report, dry_run=arguments.dry_run)


def write(report: dict[str, Any], *, dry_run: bool) -> None:
    print(json.dumps(report, indent=2))
    if not dry_run:
        save(report)


def save(report: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    main()
