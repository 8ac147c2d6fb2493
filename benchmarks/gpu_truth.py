"""The error of held-out heads against training time, at 224 pixels where the truth is known, some minutes a call.

    python benchmarks/gpu_truth.py --minutes 8 --output benchmarks/results/gpu_truth.json    # the same line goes on
    python benchmarks/gpu_truth.py --people assets/ict.npz --minutes 8                       # people of that model
    python benchmarks/gpu_truth.py --config configs/quickstart.py --minutes 2 --points 2     # a toy, on any device

Trains configs/truth.py until the time is over, then scores checkpoints on people that it has not seen: those of
embedded-v1, or with `--people` the run's own. Every call adds `--points` to the curve, with the newest checkpoint.
Time is that of the training program with all it does (data, compilation, pictures), from its start, summed over calls.
Beside the JSON goes a figure, in which configs/small.py on two CPU cores is a dot.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ablation import own_test_people
from timing import environment, report, require

from sheap_jax import config_files
from sheap_jax.commands.eval import evaluate
from sheap_jax.config import Config
from sheap_jax.training.checkpoint import finished_steps

ROOT = Path(__file__).resolve().parents[1]
SMALL = ROOT / "benchmarks/results/small_embedded-v1.json"
SMALL_MINUTES = 92  # training on two CPU cores, see configs/small.py
# Quantities of the curve, each with the baseline of its ratio.
SHOWN = {
    "neutral heads, similarity, median": "mean head",
    "where expressions move the face, similarity, median": "predicted head without expression",
    "landmarks": "mean head",
    "re-animation, face, PSNR": "source image",
}
Clock = dict[str, Any]  # "seconds" of training so far, "saved": step -> seconds at which its checkpoint was there


def people_arguments(config_file: str, people: str | None) -> list[str]:
    """What `sheap train` is told for people of a converted model, in a run of their own."""
    if people is None:
        return []
    name = f"{config_files.load_file(config_file).name}-{Path(people).stem}"
    return [f"--config.name={name}", f"--config.morphable={people}", f"--config.data.embedded.people={people}"]


def train_for(config: Config, arguments: list[str], seconds: float, clock: Clock) -> Clock:
    """Run `sheap train` for a while. SIGTERM makes it save and end; its last evaluation is left to us."""
    run = Path(config.run_directory)
    began = time.time()
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *arguments])
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
    if process.returncode == -signal.SIGTERM:
        sys.exit("the time was over before training began: data are generated first, give more --minutes")
    if process.returncode:
        sys.exit(f"sheap train ended with {process.returncode}; its last lines above say why. The same line goes on")
    saved = dict(clock["saved"])
    for step in finished_steps(run):
        when = (run / "checkpoints" / f"{step}.sha256.json").stat().st_mtime
        saved.setdefault(str(step), clock["seconds"] + when - began)
    return {"seconds": clock["seconds"] + time.time() - began, "saved": saved}


def chosen_steps(steps: list[int], scored: set[int], points: int) -> list[int]:
    """At most `points` of the steps after the last scored one, evenly spread, with the newest."""
    new = [step for step in steps if step > max(scored, default=0)]
    return sorted({new[-(-k * len(new) // points) - 1] for k in range(1, points + 1)}) if new else []


def score(config: Config, step: int) -> dict[str, float]:
    """Quantities of the curve, and their ratios to the baselines."""
    output = Path(config.run_directory) / f"evaluation-{step:07d}"
    reports = evaluate(config.run_directory, data=own_test_people(config), output=output, step=step)
    rows = [row for row in reports[0].comparisons if SHOWN.get(row.quantity) == row.baseline]
    return {row.quantity: row.ours for row in rows} | {f"{row.quantity}, ratio": row.ratio for row in rows}


def small_run() -> dict[str, float]:
    rows = json.loads(SMALL.read_text())["reports"][0]["comparisons"]
    return {row["quantity"]: row["ours"] for row in rows if SHOWN.get(row["quantity"]) == row["baseline"]}


def plot(curve: list[dict[str, float]], small: dict[str, float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SHOWN), figsize=(4 * len(SHOWN), 3.2))
    for axis, quantity in zip(axes, SHOWN, strict=True):
        axis.plot([row["seconds"] / 60 for row in curve], [row[quantity] for row in curve], "o-", label="this run")
        if small:
            axis.plot(SMALL_MINUTES, small[quantity], "s", color="grey", label="small, two CPU cores")
        axis.set_title(quantity.replace(", ", "\n"), fontsize=9)
        axis.set_xlabel("minutes of training")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/truth.py")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training in this call")
    parser.add_argument("--points", type=int, default=3, help="checkpoints to score in this call")
    parser.add_argument("--people", help="converted model (ict.npz) whose people are generated and which is fitted")
    parser.add_argument("--output", type=Path, help="JSON; a figure of the same name goes beside it")
    options, rest = parser.parse_known_args()
    require("grain", "array_record")  # of `sheap train` and its shards

    arguments = ["--config", options.config, *people_arguments(options.config, options.people), *rest]
    config = config_files.parse_arguments(arguments, default=options.config, description="")
    run = Path(config.run_directory)
    record = run / "truth.json"
    result: dict[str, Any] = {"clock": {"seconds": 0.0, "saved": {}}, "curve": []}
    if record.exists():
        result = json.loads(record.read_text())
    clock, curve = train_for(config, arguments, 60 * options.minutes, result["clock"]), result["curve"]
    record.write_text(json.dumps({"clock": clock, "curve": curve}))
    scored = {int(row["step"]) for row in curve}
    for step in chosen_steps(finished_steps(run), scored, options.points):
        curve.append({"step": step, "seconds": clock["saved"][str(step)], **score(config, step)})
        record.write_text(json.dumps({"clock": clock, "curve": curve}))

    about = environment() | {"config": options.config, "people": options.people, "clock": clock}
    small = {} if options.people else small_run()
    report(about | {"curve": curve, "small": small}, options.output)
    if options.output:
        plot(curve, small, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
