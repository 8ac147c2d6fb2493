"""Generate clips of people who do not exist, with their true geometry, into a folder of shards:

    sheap generate shards/people --train-identities 192

A run makes the clips that its configuration names by itself; this makes them once for several runs.
"""

import dataclasses
import logging
import sys
import time

from sheap_jax import command_line
from sheap_jax.config import EmbeddedData
from sheap_jax.config_fields import field_comments
from sheap_jax.data.embedded.dataset import generate
from sheap_jax.data.records import ShardError

ERRORS = (OSError, ValueError, ShardError)
METAVARS = {int: "N", float: "X", str: "NAME"}


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("generate", __doc__)
    parser.add_argument("directory", metavar="OUT", help="folder of the splits; kept if it has the same settings")
    comments = field_comments(EmbeddedData)
    for field in dataclasses.fields(EmbeddedData):
        option, comment = "--" + field.name.replace("_", "-"), comments[field.name]
        if field.name == "truth_splits":
            parser.add_argument(option, nargs="*", default=["test"], help="splits whose true geometry is kept")
        elif field.name == "processes":
            parser.add_argument(option, type=int, metavar="N", help="worker processes, one per core without")
        else:
            text = (comment or field.name.replace("_", " ")).replace("%", "%%")
            kind = type(field.default)
            parser.add_argument(option, type=kind, metavar=METAVARS[kind], default=field.default, help=text)
    settings = vars(parser.parse_args(arguments))
    settings.pop("verbose")
    directory = settings.pop("directory")
    settings["truth_splits"] = tuple(settings["truth_splits"])
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sheap_jax").setLevel(logging.INFO)
    start = time.perf_counter()
    path = generate(directory, EmbeddedData(**settings))
    print(f"{path}: ready after {time.perf_counter() - start:.0f} s")
    print(f"train on it: sheap train --config quickstart --config.data.embedded=none --config.data.directory={path}")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
