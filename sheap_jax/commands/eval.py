"""Evaluate a trained checkpoint, or compare two evaluations.

    sheap eval --checkpoint runs/quickstart
    sheap eval --checkpoint runs/base --benchmark embedded,now --data now=NOW_DIR
    sheap eval --compare runs/a/evaluation/results.json runs/b/evaluation/results.json

Reads the configuration saved beside the checkpoint, runs the benchmarks (embedded, clips, faces, now, expressive,
nersemble, affectnet), prints their tables and writes one report with error curves and sample pictures. The embedded
benchmark makes its own data, the same for everybody, and clips takes those of the run; docs/benchmarks.md says what the
others need.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from sheap_jax.command_line import make_parser
from sheap_jax.evaluation.benchmarks import BENCHMARKS, RENDERED, SUBMITTED, Task, check_benchmark, run_benchmark
from sheap_jax.evaluation.compare import compare_files
from sheap_jax.evaluation.report import BenchmarkReport, short_table, write_reports
from sheap_jax.files.places import check_writable
from sheap_jax.files.urls import check_local, in_bucket, open_path
from sheap_jax.inference.predictor import Predictor
from sheap_jax.models import official
from sheap_jax.training import pretrained
from sheap_jax.training.checkpoint_list import best_step

ERRORS = (OSError, RuntimeError, ValueError)  # one line says all


def evaluate(
    checkpoint: str | Path,
    *,
    benchmarks: Sequence[str] = ("embedded",),
    data: Mapping[str, str | Path] | None = None,
    output: str | Path | None = None,
    allow_missing: bool = False,
    step: int | Literal["best"] | None = None,
) -> list[BenchmarkReport]:
    """Score a checkpoint of a run and write the report.

    Args:
        checkpoint: directory of the run.
        benchmarks: keys of BENCHMARKS.
        data: directory of each benchmark's data; the embedded one has its own, clips takes the run's.
        output: where the report goes; default: `evaluation/` in the run.
        allow_missing: score what there is of incomplete data, and list the rest.
        step: of the checkpoint, or "best" for the one with the best score while training; default: the newest.

    Raises:
        CheckpointError, ConfigError: no readable checkpoint or configuration.
        ShardError, OSError, ValueError: missing or damaged data.
    """
    places = {name: Path(place) for name, place in (data or {}).items()}
    for name in benchmarks:
        check_benchmark(name, places.get(name))
    rendered = [name for name in benchmarks if name in RENDERED]
    if rendered and official.is_release(checkpoint):
        raise ValueError(
            f"{checkpoint} holds the official release, which renders nothing: the benchmark {rendered[0]} is for runs; "
            "pass --benchmark faces, now, expressive, nersemble or affectnet"
        )
    directory = open_path(output or pretrained.run_folder(checkpoint) / "evaluation")
    submitted = [name for name in benchmarks if name in SUBMITTED]
    if submitted and in_bucket(directory):
        raise ValueError(
            f"the benchmark {submitted[0]} writes files, which cannot go to {directory}: pass a local --output"
        )
    predictor = Predictor.from_checkpoint(checkpoint, step=best_step(checkpoint) if step == "best" else step)
    check_writable(directory)
    reports = []
    trained = predictor.config.data
    for name in benchmarks:
        bar = functools.partial(tqdm, desc=name, leave=False)
        task = Task(
            places.get(name),
            directory,
            predictor.config.image_size,
            allow_missing,
            bar,
            None if trained.embedded else Path(trained.directory),
        )
        reports.append(run_benchmark(name, predictor, task))
    files = write_reports(reports, directory)
    print(*map(short_table, reports), sep="\n")
    print("written:", *files, sep="\n  ")
    return reports


def parse_data(places: Sequence[str], benchmarks: Sequence[str]) -> dict[str, str]:
    """NAME=PATH by name; a plain PATH belongs to the only benchmark. Raises ValueError if it is unclear whose it is."""
    data = {}
    for place in places:
        name, equals, path = place.partition("=")
        if not equals or name not in BENCHMARKS:
            if len(benchmarks) != 1:
                raise ValueError(f"--data {place}: say whose data they are, as in --data {benchmarks[-1]}={place}")
            name, path = benchmarks[0], place
        if name in data or name not in benchmarks:
            raise ValueError(f"--data {place}: {name} {'has data already' if name in data else 'is not asked for'}")
        check_local(path, "--data")
        data[name] = path
    return data


def _step(text: str) -> int | str:
    """A step, or "best"."""
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a step nor best")
    return text if text == "best" else int(text)


def main(arguments: list[str]) -> None:
    parser = make_parser("eval", __doc__, urls=("checkpoint", "compare", "output"))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="DIR", help=pretrained.HELP)
    what.add_argument("--compare", nargs=2, metavar="JSON", help="two results.json")
    parser.add_argument(
        "--benchmark",
        action="append",
        metavar="NAME",
        help=f"one or more of {', '.join(BENCHMARKS)} (default: embedded)",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="directory of a benchmark's data; a plain PATH is of the only one",
    )
    parser.add_argument("--output", metavar="DIR", help="where the report goes (default: DIR/evaluation)")
    parser.add_argument("--allow-missing", action="store_true", help="score incomplete data and list what is missing")
    parser.add_argument(
        "--step",
        type=_step,
        metavar="N",
        help="which checkpoint of the run: a step, or best for the best one while training (default: the newest)",
    )
    options = parser.parse_args(arguments)
    if options.compare:
        print(compare_files(*options.compare))
        return
    names = list(dict.fromkeys(",".join(options.benchmark or ["embedded"]).split(",")))
    evaluate(
        options.checkpoint,
        benchmarks=names,
        data=parse_data(options.data, names),
        output=options.output,
        allow_missing=options.allow_missing,
        step=options.step,
    )
