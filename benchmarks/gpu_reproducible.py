"""Two trainings with one seed on one device: are they bit-equal, and what does that cost?

    python benchmarks/gpu_reproducible.py --output benchmarks/results/gpu_reproducible.json
    python benchmarks/gpu_reproducible.py --config configs/quickstart.py --batch 2 --steps 3      # a toy, on any device

The paper's step with random weights (paper_run.py), other pictures at every step. Both trainings run one program. The
comparison is made twice: with XLA's defaults, and with only those operations that add in a fixed order.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def train_twice(options: argparse.Namespace) -> dict[str, Any]:
    """Digests of loss and parameters of two runs, and the time of a step."""
    import jax
    from paper_run import random_batch, random_run
    from timing import environment

    from sheap_jax import assembly, config_files
    from sheap_jax.training import start
    from sheap_jax.training.step import make_step

    run = random_run(config_files.load_file(options.config), head=options.head)
    config = run.config
    step: Any = make_step(
        run.networks,
        start.build_optimizers(config),
        config.losses,
        assembly.render_settings(config),
        rendered=True,
    )
    batches = [random_batch(config, options.batch, seed=seed) for seed in range(4)]
    digests, seconds, differing = [], [], []
    leaves: list[Any] = []
    for _ in range(2):
        state = jax.tree.map(lambda leaf: leaf.copy(), run.state)
        losses, begin = [], 0.0
        for number in range(options.steps):
            if number == 1:  # the first compiles
                jax.block_until_ready(losses)
                begin = time.perf_counter()
            state, report = step(state, run.assets, batches[number % len(batches)])
            losses.append(report.metrics["loss"])
        leaves.append(jax.device_get((losses, state.params)))
        seconds.append((time.perf_counter() - begin) / max(options.steps - 1, 1))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(leaves[-1]):
            digest.update(leaf.tobytes())
        digests.append(digest.hexdigest())
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(leaves[0])[0]]
    for path, one, other in zip(paths, *(jax.tree.leaves(tree) for tree in leaves), strict=True):
        if one.tobytes() != other.tobytes():
            differing.append(path)
    return environment() | {
        "bit_equal": digests[0] == digests[1],
        "first_differing": differing[:5],
        "step_ms": 1e3 * min(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/base.py")
    parser.add_argument("--head", default="embedded:fine", help="in FLAME's place (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(train_twice(options)))
        return
    result: dict[str, Any] = {"config": options.config, "batch": options.batch, "steps": options.steps}
    for name, flags in (("as it is", ""), ("deterministic operations", DETERMINISTIC)):
        # XLA reads its flags once in a process. It would take a blank alone for the name of a file.
        environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
        done = subprocess.run([sys.executable, *sys.argv, "--once"], env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"the runs {name} failed")
        result[name] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
