"""How fast the loader is on one core, beside the bare JPEG decoder on the same bytes.

    PYTHONPATH=. python benchmarks/loader.py [--shards DIR]

Counts processor time, which other programs on the machine disturb less than the clock. Two things take turns: the
whole stream, as a training without worker processes sees it (draws, reads, decoding, mirroring, Grain), and simplejpeg
on the JPEG files of the same records. Without --shards it takes pictures of generated heads at the paper's 224 pixels.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timing import environment
from tqdm import tqdm

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded.dataset import generate
from sheap_jax.data.pairs import pair_batches
from sheap_jax.data.records import Split

GENERATED = EmbeddedData(
    train_identities=24, test_identities=1, clips_per_identity=1, frames_per_clip=8, image_size=224
)
IMAGE_SIZE, BATCH_SIZE = 224, 32
NEEDED = 1000.0  # pairs/s: what one H200 is to be fed with


class Round(NamedTuple):
    """Processor time per pair, microseconds."""

    loader: float
    decoder: float


def measure(shards: Path, *, rounds: int, batches: int) -> list[Round]:
    """`rounds` measurements of `batches` batches each."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    split = Split(shards, "train")
    jpegs = [record.image for record in split]
    decode = functools.partial(simplejpeg.decode_jpeg, colorspace="RGB")
    stream = pair_batches(shards, split="train", batch_size=BATCH_SIZE, image_size=IMAGE_SIZE, seed=0, threads=0)
    results = []
    with stream:
        for number in tqdm(range(rounds + 1), desc="measuring", unit="round"):
            start = time.process_time()
            records = np.concatenate([next(stream).record.ravel() for _ in range(batches)]).tolist()
            loaded = time.process_time()
            for i in records:
                decode(jpegs[i])
            pairs = 1e-6 * batches * BATCH_SIZE
            if number:  # the first warms up
                results.append(Round((loaded - start) / pairs, (time.process_time() - loaded) / pairs))
    return results


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="directory of prepared shards")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/loader_cpu.json"))
    options = parser.parse_args()
    shards = options.shards or generate(Path(".cache/benchmark-loader"), GENERATED)
    rounds = np.array(measure(shards, rounds=options.rounds, batches=8))
    loader, decoder = np.median(rounds, axis=0)
    low, share, high = np.quantile(rounds[:, 1] / rounds[:, 0], [0.25, 0.5, 0.75])
    split = Split(shards, "train")
    result = {
        "environment": environment(),
        "images": "generated heads" if options.shards is None else "prepared clips",
        "image_size": IMAGE_SIZE,
        "batch_size": BATCH_SIZE,
        "jpeg_bytes": round(float(np.mean([len(record.image) for record in split]))),
        "loader_pairs_per_s_per_core": round(1e6 / loader, 1),
        "decoder_pairs_per_s_per_core": round(1e6 / decoder, 1),
        "share_of_bare_decoding": round(float(share), 3),
        "share_quartiles": [round(float(low), 3), round(float(high), 3)],
        "cores_for_1000_pairs_per_s": round(float(NEEDED * loader / 1e6), 2),
    }
    print(json.dumps(result, indent=2))
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
