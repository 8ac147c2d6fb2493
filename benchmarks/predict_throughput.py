"""predict.py's pipeline beside the bare network: ViT-B/16 with random weights on CPU, in one run.

    python benchmarks/predict_throughput.py --output predict_throughput_cpu.json

The pipeline decodes a folder of JPEGs, crops their faces, predicts and writes params.npz; the bare network gets as many
crops from memory. Both go through the same compiled program. Rounds alternate, so that a load from elsewhere
meets both; the median of the rounds' ratios is reported, of wall time and of the process's CPU time.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from estimator_cpu import random_params
from timing import environment, report

from sheap_jax.config import Config, Estimator
from sheap_jax.inference.batches import BUCKETS
from sheap_jax.inference.faces import BoxFaces
from sheap_jax.inference.inputs import find_inputs
from sheap_jax.inference.outputs import write_outputs
from sheap_jax.inference.pipeline import Prediction, predict_clips
from sheap_jax.inference.predictor import Predictor, RunParts
from sheap_jax.method.reanimation import Networks
from sheap_jax.models import build
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training.state import Learned

HEIGHT, WIDTH = 960, 1280  # of the photographs


def random_predictor() -> Predictor:
    """A predictor that can estimate and nothing else: ViT-B/16 at 224 pixels, the embedded head."""
    config = Config("random", estimator=Estimator(style="farl"))
    model = load_morphable(config.morphable)
    estimator = build.build_estimator(config, build.head_sizes(model))
    prototypes: Any = None
    learned = Learned(jnp.zeros((), jnp.int32), {"estimator": jax.device_put(random_params(estimator))}, prototypes)
    networks: Any = Networks(estimator, None)  # type: ignore[arg-type]
    assets: Any = None
    return Predictor.from_parts(config, model, RunParts(assets, networks, learned))


def write_photographs(folder: Path, count: int) -> BoxFaces:
    """Photographs of blurred noise with one box each."""
    rng = np.random.default_rng(0)
    rows = ["file,left,top,right,bottom"]
    for number in range(count):
        small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), cv2.resize(small, (WIDTH, HEIGHT)))
        rows.append(f"{number:03d}.jpg,400,300,700,620")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return BoxFaces(folder / "boxes.csv")


def run_pipeline(predictor: Predictor, finder: BoxFaces, folder: Path, output: Path) -> None:
    """What predict.py does with a folder, --save params."""
    clips = find_inputs([str(folder)]).clips
    for result in predict_clips(predictor, clips, finder, size=predictor.config.image_size):
        assert isinstance(result, Prediction), result
        write_outputs(output, predictor.model, result, ["params"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4 * BUCKETS[-1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file; without, the result is only printed")
    options = parser.parse_args()
    result: dict[str, Any] = {"what": (__doc__ or "").splitlines()[0], **environment()}
    predictor = random_predictor()
    size = predictor.config.image_size
    crops = np.random.default_rng(1).uniform(size=(options.images, size, size, 3)).astype(np.float32)
    times = np.zeros((options.rounds, 2, 2))  # round, pipeline or network, (wall, CPU)
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place, "in"), Path(place, "out")
        folder.mkdir()
        finder = write_photographs(folder, options.images)
        runs = (lambda: run_pipeline(predictor, finder, folder, output), lambda: predictor(crops))
        for number in range(-1, options.rounds):  # the first compiles
            for which, run in enumerate(runs):
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                if number >= 0:
                    times[number, which] = time.perf_counter() - wall, time.process_time() - cpu
    seconds, ratio = np.median(times, axis=0), np.median(times[:, 1] / times[:, 0], axis=0)
    result |= {
        "images": options.images, "rounds": options.rounds, "photograph": [HEIGHT, WIDTH],
        "pipeline_images_per_s": round(options.images / seconds[0, 0], 2),
        "network_images_per_s": round(options.images / seconds[1, 0], 2),
        "pipeline_cpu_s_per_image": round(seconds[0, 1] / options.images, 4),
        "network_cpu_s_per_image": round(seconds[1, 1] / options.images, 4),
        "throughput_ratio_wall": round(ratio[0], 3),
        "throughput_ratio_cpu": round(ratio[1], 3),
        "load_average_after": environment()["load_average"],
    }  # fmt: skip
    report(result, options.output)


if __name__ == "__main__":
    main()
