"""Evaluate a trained checkpoint.

    python eval.py --checkpoint runs/quickstart
    python eval.py --checkpoint runs/quickstart --data SHARDS --output results

Reads the configuration saved beside the checkpoint, scores the network on people it has never seen, prints the table
and writes it with the error curves and sample pictures.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from sheap_jax.config_files import ConfigError
from sheap_jax.data.records import ShardError
from sheap_jax.evaluation.embedded import evaluate_embedded
from sheap_jax.evaluation.report import Report, markdown_table, write_report
from sheap_jax.inference.predictor import Predictor
from sheap_jax.training import setup
from sheap_jax.training.checkpoint import CheckpointError

BENCHMARKS: dict[str, Callable[..., Report]] = {"embedded": evaluate_embedded}


def evaluate(
    checkpoint: str | Path,
    *,
    benchmark: str = "embedded",
    data: str | Path | None = None,
    output: str | Path | None = None,
) -> Report:
    """Score the newest checkpoint of a run and write the report.

    Args:
        checkpoint: directory of the run.
        benchmark: a key of BENCHMARKS.
        data: directory of the benchmark's data; default: that of the run's configuration.
        output: where the report goes; default: `evaluation/` in the run.

    Raises:
        CheckpointError, ConfigError: no readable checkpoint or configuration.
        ShardError, OSError, ValueError: missing or damaged data.
    """
    score = BENCHMARKS[benchmark]
    predictor = Predictor(checkpoint)
    directory = Path(data) if data else setup.ensure_data(predictor.config)
    bar = functools.partial(tqdm, desc="scan-to-mesh errors", unit="mesh", leave=False)
    report = score(predictor, directory, image_size=predictor.config.image_size, progress=bar)
    files = write_report(report, output or Path(checkpoint) / "evaluation")
    print(markdown_table(report))
    print("written:", *files, sep="\n  ")
    return report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="directory of a training run")
    parser.add_argument("--benchmark", default="embedded", choices=sorted(BENCHMARKS))
    parser.add_argument("--data", metavar="DIR", help="data of the benchmark (default: those of the run)")
    parser.add_argument("--output", metavar="DIR", help="where the report goes (default: DIR/evaluation)")
    evaluate(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CheckpointError, ConfigError, ShardError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
