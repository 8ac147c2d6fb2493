"""How much of what the truth could teach do pictures and landmarks teach? Trained with and without it, one table.

    python benchmarks/supervised_share.py                   # quickstart.py, three seeds: half an hour on two cores
    python benchmarks/supervised_share.py --config configs/small.py --seeds 1
    python benchmarks/supervised_share.py --morphable ict.npz   # people of a converted model, fitted with it
    python benchmarks/supervised_share.py --collect         # the table of the runs that there are

For each seed the configuration is trained as it is, and once more with the true shape of the training people as a
target besides (configs/ablations/supervised.py). Both are scored on the same people, whom no run has seen:

    share = (mean head's error - ours) / (mean head's error - error of the run that was told the truth)

The output directory gets the runs and `share.json`; the same line goes on after a stop.
"""

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ablation import mean_and_spread, own_test_people, results_file
from timing import environment

from sheap_jax import config_files
from sheap_jax.commands.eval import evaluate
from sheap_jax.commands.train import train
from sheap_jax.config import Config

SUPERVISED = Path("configs/ablations/supervised.py")
QUANTITIES = ("neutral heads, similarity, median", "neutral heads, rigid, median")  # beside the mean head
log = logging.getLogger("supervised_share")


class Runs(NamedTuple):
    """One seed."""

    method: Config
    supervised: Config


class Share(NamedTuple):
    """Errors in the unit of the quantity, one value per seed."""

    mean_head: list[float]
    method: list[float]
    supervised: list[float]
    share: list[float]


def runs_of(base_file: str, changes: dict[str, object], directory: Path) -> Runs:
    """Both trainings of one seed, below `directory`."""
    configs = []
    for name, file in (("method", base_file), ("supervised", f"{SUPERVISED}:{base_file}")):
        config = config_files.load_file(file)
        for field, value in {**changes, "log.directory": str(directory / name)}.items():
            config = config_files.replace(config, field.split("."), value)
        configs.append(config)
    return Runs(*configs)


def run(config: Config) -> None:
    """Train and score, unless that was done before. ConfigError if the directory holds a run of other settings."""
    if results_file(config).exists():
        saved = config_files.load_json(Path(config.run_directory) / "config.json")
        if saved != config:
            raise config_files.ConfigError(f"{config.run_directory} is of other settings: choose another --output")
        return
    train(config)
    evaluate(config.run_directory, data=own_test_people(config))


def scores(config: Config) -> dict[str, tuple[float, float]]:
    """Quantity -> our error and the mean head's."""
    rows = json.loads(results_file(config).read_text())["reports"][0]["comparisons"]
    return {
        row["quantity"]: (row["ours"], row["baseline_value"])
        for row in rows
        if row["quantity"] in QUANTITIES and row["baseline"] == "mean head"
    }


def collect(seeds: list[Runs]) -> dict[str, Share]:
    """One value for each seed."""
    found = {quantity: Share([], [], [], []) for quantity in QUANTITIES}
    for runs in seeds:
        method, supervised = map(scores, runs)
        for quantity, share in found.items():
            (ours, mean_head), (told, _) = method[quantity], supervised[quantity]
            for values, value in zip(
                share, (mean_head, ours, told, (mean_head - ours) / (mean_head - told)), strict=True
            ):
                values.append(value)
    return found


def markdown(found: dict[str, Share]) -> str:
    lines = ["| | mean head | method | told the truth | share |", "| --- | ---: | ---: | ---: | ---: |"]
    for quantity, share in found.items():
        cells = [f"{np.mean(share.mean_head):.3f}", *(mean_and_spread(values) for values in share[1:])]
        lines.append(f"| {quantity} [mm] | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(seeds: list[Runs], directory: Path) -> None:
    seeds = [runs for runs in seeds if all(results_file(config).exists() for config in runs)]
    if not seeds:
        return
    found = collect(seeds)
    method = seeds[0].method
    report: dict[str, Any] = environment() | {
        "config": method.name,
        "morphable": Path(method.morphable).name,
        "steps": method.steps,
        "rendered_steps": method.steps - method.geometry_steps,
        "true_shape_weight": seeds[0].supervised.losses.true_shape,
        "seeds": [runs.method.seed for runs in seeds],
        "values": {quantity: share._asdict() for quantity, share in found.items()},
    }
    (directory / "share.json").write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(found))


def seeds_of(options: argparse.Namespace) -> Iterator[Runs]:
    for seed in range(options.seeds):
        changes: dict[str, object] = {"seed": seed, "log.pictures_every": 0}
        if options.morphable:
            changes |= {"morphable": options.morphable, "data.embedded.people": options.morphable}
        if options.true_shape is not None:
            changes["losses.true_shape"] = options.true_shape
        runs = runs_of(options.config, changes, options.output / f"seed{seed}")
        untold = dataclasses.replace(runs.method.losses, true_shape=0.0)
        yield runs._replace(method=dataclasses.replace(runs.method, losses=untold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart.py", help="the base (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--morphable", help="train on people of this converted model (ict.npz) and fit it to them")
    parser.add_argument("--true-shape", type=float, help="weight of the true shape, instead of the ablation's")
    parser.add_argument("--output", default="runs/share", type=Path)
    parser.add_argument("--collect", action="store_true", help="train nothing: the table of what is there")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    jax.config.update("jax_compilation_cache_dir", str(Path(".cache/xla").absolute()))
    seeds = list(seeds_of(options))
    for runs in seeds:
        for config in () if options.collect else runs:
            run(config)
        write(seeds, options.output)


if __name__ == "__main__":
    main()
