"""Train a head geometry predictor: `sheap train`. The recipe is sheap_jax/commands/train.py."""

import sys

from sheap_jax.commands.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
