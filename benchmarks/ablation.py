"""What each part of the method is worth: every variant trained and evaluated over several seeds, one table.

    python benchmarks/ablation.py                       # hours on two cores; the same line goes on after a stop
    python benchmarks/ablation.py --config configs/small.py --seeds 3
    python benchmarks/ablation.py --variants full,landmarks_only,no_consistency --steps 300
    python benchmarks/ablation.py --collect             # tables and figure of the runs that there are
    python benchmarks/ablation.py --morphable ict.npz   # people of a converted model, fitted with that model

A variant is a file of configs/ablations/, applied to the base configuration; "full" is the base itself. The first
steps, without pictures, are the same for all variants: they are trained once for each seed, and every variant starts
from that checkpoint. All are scored on the same test people: those of embedded-v1, or people of the converted model.
The output directory gets the runs, `ablation.json`, `ablation.md` and `ablation.png`, anew after every run: values with
their spread over seeds, and the difference of every variant from the full method, image by image, with a bootstrap
interval over people.
"""

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from timing import environment

from sheap_jax import assembly, config_files
from sheap_jax.commands.eval import evaluate
from sheap_jax.commands.train import train
from sheap_jax.config import Config
from sheap_jax.data.embedded.people import EMBEDDED
from sheap_jax.evaluation.compare import Interval, load_results, paired_bootstrap, paired_values
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import run_directory, start
from sheap_jax.training.checkpoint import Checkpoints
from sheap_jax.training.state import TrainState

ABLATIONS = Path("configs/ablations")
FULL = "full"
CEILING = "supervised"  # no variant of the method, and told the truth from the first step: supervised_share.py
# Quantities of the report that the table shows.
SHOWN = (
    "neutral heads, similarity, median",
    "neutral heads, rigid, median",
    "expressive heads, similarity, median",
    "where expressions move the face, similarity, median",
    "landmarks",
    "re-animation, face, PSNR",
    "re-animation, face, SSIM",
)

BenchmarkReport = dict[str, Any]  # one benchmark of a results.json
log = logging.getLogger("ablation")


class Group(NamedTuple):
    """Runs that share their first phase."""

    base: Config
    runs: dict[str, Config]  # by variant


def variants_of(base_file: str, names: list[str], changes: Mapping[str, object], directory: Path) -> Group:
    """The base and its variants, as runs below `directory`; a variant that changes nothing of this base is left out."""
    files = {name: base_file if name == FULL else f"{ABLATIONS / name}.py:{base_file}" for name in [FULL, *names]}
    runs = {}
    for name, file in files.items():
        config = config_files.load_file(file)
        for field, value in {**changes, "log.directory": str(directory / name)}.items():
            config = config_files.replace(config, field.split("."), value)
        runs[name] = config
    base = runs[FULL]
    same = [name for name in names if _apart_from_names(runs[name]) == _apart_from_names(base)]
    for name in same:
        log.info("%s changes nothing of %s and is left out", name, base_file)
    return Group(base, {name: runs[name] for name in dict.fromkeys([FULL, *names]) if name not in same})


def _apart_from_names(config: Config) -> Config:
    return dataclasses.replace(config, name="", log=dataclasses.replace(config.log, directory=""))


def run_group(group: Group, directory: Path) -> Iterator[str]:
    """Train the common phase, then train and evaluate every variant that has no results yet; yields those with results.

    Raises ConfigError if `directory` holds runs of other settings.
    """
    for config in group.runs.values():
        saved = Path(config.run_directory) / "config.json"
        if saved.exists() and config_files.load_json(saved) != config:
            raise config_files.ConfigError(f"{saved} is of other settings: choose another --output or remove it")
    for name, config in group.runs.items():
        if not results_file(config).exists():
            log.info("%s, seed %d", name, config.seed)
            if group.base.geometry_steps:
                start_after(train_geometry(group.base, directory), config)
            train(config)
            evaluate(config.run_directory, data=own_test_people(config))
        yield name


def train_geometry(base: Config, directory: Path) -> TrainState:
    """The common phase: the base's first steps, trained unless they are there already."""
    logs = dataclasses.replace(base.log, directory=str(directory / "geometry"), pictures_every=0)
    config = dataclasses.replace(base, name=f"{base.name}-geometry", steps=base.geometry_steps, log=logs)
    checkpoints = Checkpoints(train(config))
    state = checkpoints.restore(first_state(config))
    checkpoints.close()
    assert state is not None
    return state


def first_state(config: Config) -> TrainState:
    model = load_morphable(config.morphable)
    return start.initial_state(config, assembly.build_networks(config, model), assembly.build_assets(config, model))


def start_after(geometry: TrainState, config: Config) -> None:
    """Make the end of the common phase the first checkpoint of a variant; its regressor has not learned yet."""
    state = first_state(config)
    with run_directory.claim(config) as run:
        checkpoints = Checkpoints(run.path)
        if not checkpoints.steps():
            run.begin(int(geometry.step))
            params = state.params | {"estimator": geometry.params["estimator"]}
            moments = state.opt_state | {"estimator": geometry.opt_state["estimator"]}
            checkpoints.save(dataclasses.replace(state, step=geometry.step, params=params, opt_state=moments))
        checkpoints.close()


def own_test_people(config: Config) -> dict[str, Path]:
    """Where the test people are if the run's are not the embedded heads, whose test people are embedded-v1."""
    people = config.data.embedded
    generated = people is None or people.people.startswith(EMBEDDED)
    return {} if generated else {"embedded": assembly.ensure_data(config)}


def results_file(config: Config) -> Path:
    return Path(config.run_directory) / "evaluation" / "results.json"


def collect(groups: list[Group]) -> dict[str, dict[str, list[float]]]:
    """Variant -> quantity -> value of each finished seed. The first baseline of each quantity counts as a variant."""
    table: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        for name, config in group.runs.items():
            if not results_file(config).exists():
                continue
            rows = json.loads(results_file(config).read_text())["reports"][0]["comparisons"]
            for quantity in SHOWN:
                found = [row for row in rows if row["quantity"] == quantity]
                if found:
                    table.setdefault(name, {}).setdefault(quantity, []).append(found[0]["ours"])
                    if name == FULL:
                        baseline = f"({found[0]['baseline']})"
                        table.setdefault(baseline, {}).setdefault(quantity, []).append(found[0]["baseline_value"])
    return table


def markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Mean and spread of each quantity, a row for each variant."""
    lines = ["| variant | " + " | ".join(SHOWN) + " |", "| --- |" + " ---: |" * len(SHOWN)]
    for name, values in table.items():
        cells = [mean_and_spread(values.get(quantity, [])) for quantity in SHOWN]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mean_and_spread(values: list[float]) -> str:
    """Over seeds; "" without any."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def differences(groups: list[Group]) -> dict[str, dict[str, Interval]]:
    """Variant -> quantity -> variant minus full of the same seed, over all images of the seeds that have both."""
    found: dict[str, dict[str, Interval]] = {}
    for name in dict.fromkeys(name for group in groups for name in group.runs if name != FULL):
        pairs = [pair for group in groups if (pair := _report_pair(group, name))]
        per_seed = [paired_values(*pair) for pair in pairs]
        for quantity in SHOWN:
            parts = [values[quantity] for values in per_seed if quantity in values]
            interval = paired_bootstrap(*map(np.concatenate, zip(*parts, strict=True))) if parts else None
            if interval is not None:
                found.setdefault(name, {})[quantity] = interval
    return found


def _report_pair(group: Group, name: str) -> tuple[BenchmarkReport, BenchmarkReport] | None:
    """The reports of the full method and of a variant; None if one of them is missing."""
    files = [results_file(group.runs[which]) for which in (FULL, name)]
    if not all(file.exists() for file in files):
        return None
    full, variant = (next(iter(load_results(file).values())) for file in files)
    return full, variant


def differences_markdown(found: dict[str, dict[str, Interval]]) -> str:
    """Variant minus full with its interval, a row for each variant; in bold where zero is outside."""
    lines = ["| variant - full | " + " | ".join(SHOWN) + " |", "| --- |" + " ---: |" * len(SHOWN)]
    for name, intervals in found.items():
        cells = [_difference_cell(intervals[quantity]) if quantity in intervals else "" for quantity in SHOWN]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _difference_cell(interval: Interval) -> str:
    bold = "" if interval.low <= 0 <= interval.high else "**"
    return f"{bold}{interval.difference:+.3f}{bold} [{interval.low:+.3f}, {interval.high:+.3f}]"


def plot(found: dict[str, dict[str, Interval]], path: Path) -> None:
    """A panel for each quantity: every variant's difference from the full method with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(found)[::-1]
    figure, axes = pyplot.subplots(1, len(SHOWN), figsize=(2.6 * len(SHOWN), 0.35 * len(names) + 1.6), sharey=True)
    for axis, quantity in zip(axes, SHOWN, strict=True):
        axis.axvline(0, linestyle="--", color="grey", linewidth=1)
        for row, name in enumerate(names):
            if quantity in found[name]:
                middle, low, high = found[name][quantity][:3]
                color = "tab:blue" if low <= 0 <= high else "tab:red"
                axis.errorbar(middle, row, xerr=[[middle - low], [high - middle]], fmt="o", color=color, capsize=3)
        axis.set_title(quantity.replace(", ", "\n"), fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    figure.suptitle("variant - full, 95 % over people; red where zero is outside", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(groups: list[Group], directory: Path) -> None:
    table, compared = collect(groups), differences(groups)
    base = groups[0].base
    report = environment() | {
        "base": base.name,
        "morphable": base.morphable,
        "geometry_steps": base.geometry_steps,
        "rendered_steps": base.steps - base.geometry_steps,
        "seeds": [group.base.seed for group in groups],
        "values": table,
        "minus_full": {
            name: {quantity: interval._asdict() for quantity, interval in intervals.items()}
            for name, intervals in compared.items()
        },
    }
    (directory / "ablation.json").write_text(json.dumps(report, indent=1) + "\n")
    tables = markdown(table) + "\n" + differences_markdown(compared)
    (directory / "ablation.md").write_text(tables)
    if compared:
        plot(compared, directory / "ablation.png")
    print(tables)


def main() -> None:
    choices = sorted(path.stem for path in ABLATIONS.glob("*.py") if path.stem not in (FULL, CEILING))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(ABLATIONS / f"{FULL}.py"), help="the base (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default=",".join(choices), help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="rendered steps, instead of the base's")
    parser.add_argument("--geometry-steps", type=int, help="steps of the common phase, instead of the base's")
    parser.add_argument("--morphable", help="train on people of this converted model (ict.npz) and fit it to them")
    parser.add_argument("--output", default="runs/ablation", type=Path)
    parser.add_argument("--collect", action="store_true", help="train nothing: tables and figure of what is there")
    options = parser.parse_args()
    names = [name for name in options.variants.split(",") if name != FULL]
    unknown = set(names) - set(choices)
    if unknown:
        parser.error(f"there is no variant {', '.join(sorted(unknown))}; choose from {', '.join(choices)}")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    jax.config.update("jax_compilation_cache_dir", str(Path(".cache/xla").absolute()))

    base = config_files.load_file(options.config)
    geometry_steps = base.geometry_steps if options.geometry_steps is None else options.geometry_steps
    rendered = base.steps - base.geometry_steps if options.steps is None else options.steps
    changes: dict[str, object] = {"geometry_steps": geometry_steps, "steps": geometry_steps + rendered}
    if options.morphable:
        changes |= {"morphable": options.morphable, "data.embedded.people": options.morphable}
    directories = [options.output / f"seed{seed}" for seed in range(options.seeds)]
    groups = [
        variants_of(options.config, names, changes | {"seed": seed}, directory)
        for seed, directory in enumerate(directories)
    ]
    if options.collect:
        write(groups, options.output)
        return
    for last, (group, directory) in enumerate(zip(groups, directories, strict=True), start=1):
        for _ in run_group(group, directory):
            write(groups[:last], options.output)


if __name__ == "__main__":
    main()
