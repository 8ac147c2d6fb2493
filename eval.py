"""Evaluate a trained run: `sheap eval`, which is sheap_jax/commands/eval.py."""

import sys

from sheap_jax.commands.__main__ import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
