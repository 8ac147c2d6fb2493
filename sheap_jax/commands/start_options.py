"""Options of `sheap train` that are no fields: they are about one start, not about the run."""

import argparse
from typing import NamedTuple

from sheap_jax.training.profile import OPTION, StepRange


class StartOptions(NamedTuple):
    fresh: bool = False  # begin anew where all checkpoints of the run were damaged
    profile: StepRange | None = None  # steps to trace


def options_parser() -> argparse.ArgumentParser:
    """The parser of these options alone, to be a parent of the whole command's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--fresh", action="store_true", help="begin anew where all checkpoints of the run were damaged")
    parser.add_argument(OPTION, metavar="FIRST:LAST", help="write a trace of these steps for xprof and TensorBoard")
    return parser


def read_options(arguments: list[str]) -> StartOptions:
    """These options among all arguments. Raises ConfigError for steps that are no range."""
    known, _ = options_parser().parse_known_args(arguments)
    return StartOptions(known.fresh, None if known.profile is None else StepRange.parse(known.profile))
