"""`python -m sheap_jax.data.embedded OUT --train-identities 192`: generate the data set into a directory."""

import argparse
import dataclasses
import json
import logging
import time

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded.dataset import generate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sheap_jax.data.embedded", description=__doc__)
    parser.add_argument("directory", help="where the splits go; reused if it was made with the same settings")
    for field in dataclasses.fields(EmbeddedData):
        option = "--" + field.name.replace("_", "-")
        if field.name == "truth_splits":
            parser.add_argument(option, nargs="*", choices=["train", "test"], default=["test"])
        elif field.name == "processes":
            parser.add_argument(option, type=int, default=None, help="worker processes, default one per core")
        else:
            parser.add_argument(option, type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    directory = arguments.pop("directory")
    arguments["truth_splits"] = tuple(arguments["truth_splits"])
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sheap_jax").setLevel(logging.INFO)
    start = time.perf_counter()
    path = generate(directory, EmbeddedData(**arguments))
    print(f"{path}: {json.dumps(arguments)} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
