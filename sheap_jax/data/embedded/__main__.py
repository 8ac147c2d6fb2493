"""`python -m sheap_jax.data.embedded OUT --train-identities 192`: generate the data set into a directory."""

import dataclasses
import json
import logging
import sys
import time

from sheap_jax import command_line
from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded.dataset import generate
from sheap_jax.data.records import ShardError


def main(arguments: list[str] | None = None) -> None:
    parser = command_line.make_parser("", __doc__, prog="python -m sheap_jax.data.embedded")
    parser.add_argument("directory", help="where the splits go; reused if it was made with the same settings")
    for field in dataclasses.fields(EmbeddedData):
        option = "--" + field.name.replace("_", "-")
        if field.name == "truth_splits":
            parser.add_argument(option, nargs="*", choices=["train", "test"], default=["test"])
        elif field.name == "processes":
            parser.add_argument(option, type=int, default=None, help="worker processes, default one per core")
        else:
            parser.add_argument(
                option, type=type(field.default), default=field.default, help="see EmbeddedData in config.py"
            )
    settings = vars(parser.parse_args(arguments))
    settings.pop("verbose")
    directory = settings.pop("directory")
    settings["truth_splits"] = tuple(settings["truth_splits"])
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sheap_jax").setLevel(logging.INFO)
    start = time.perf_counter()
    try:
        path = generate(directory, EmbeddedData(**settings))
    except (OSError, ValueError, ShardError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{path}: {json.dumps(settings)} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], (OSError, ValueError, ShardError))
