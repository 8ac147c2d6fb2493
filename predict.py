"""Predict head geometry from photographs and videos: `sheap predict`, which is sheap_jax/commands/predict.py."""

import sys

from sheap_jax.commands.__main__ import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
